package kalturatest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The states of a server node.
const (
	NodeActive         = 1
	NodeDisabled       = 2
	nodeDeleted        = 3
	nodeNotRegistered  = 4
	nodeNotOperational = 5
)

// Node is a server the backend knows. Its host name must be, letter by
// letter, what the media server says of itself.
type Node struct {
	ID          int       `json:"id"`
	Partner     int       `json:"partner"`
	Name        string    `json:"name"`
	HostName    string    `json:"hostName"`
	ObjectType  string    `json:"objectType"` // KalturaWowzaMediaServerNode when empty
	Status      int       `json:"status"`
	Environment string    `json:"environment"`
	Application string    `json:"application"`
	Playback    string    `json:"playback"` // playbackDomain: where players reach it
	Config      string    `json:"config"`
	Heartbeat   time.Time `json:"heartbeat,omitzero"` // zero: never; such a node counts as alive
}

const wowzaNode = "KalturaWowzaMediaServerNode"

// nodeTypes are the types of nodes by object type, and whether they serve
// media.
var nodeTypes = map[string]struct {
	name  string
	media bool
}{
	wowzaNode:                           {"wowza.WOWZA_MEDIA_SERVER", true},
	"KalturaLiveClusterMediaServerNode": {"liveCluster.LIVE_CLUSTER_MEDIA_SERVER", true},
	"KalturaEdgeServerNode":             {"1", false},
}

func (n *Node) kind() string {
	if n.ObjectType == "" {
		return wowzaNode
	}
	return n.ObjectType
}

// mediaServer finds a node that may carry registrations.
func (b *Backend) mediaServer(host string) *Node {
	for _, n := range b.nodes {
		if n.HostName == host && n.Status != NodeDisabled && n.Status != nodeDeleted && nodeTypes[n.kind()].media {
			return n
		}
	}
	return nil
}

func (b *Backend) nodeByID(id int) *Node {
	for _, n := range b.nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

func (c *call) showNode(n *Node) object {
	o := object{"objectType": n.kind(), "id": n.ID, "partnerId": n.Partner, "name": n.Name, "hostName": n.HostName, "status": n.Status,
		"type": nodeTypes[n.kind()].name, "environment": n.Environment, "applicationName": n.Application, "playbackDomain": n.Playback,
		"config": n.Config, "dc": 0}
	if !n.Heartbeat.IsZero() {
		o["heartbeatTime"] = n.Heartbeat.Unix()
		if n.Status == NodeActive && c.now.Sub(n.Heartbeat) > heartbeatExpiry {
			o["status"] = nodeNotRegistered
		}
	}
	return o
}

// fill takes over the fields that were given.
func (n *Node) fill(p params) {
	for name, field := range map[string]*string{"name": &n.Name, "hostName": &n.HostName, "environment": &n.Environment,
		"applicationName": &n.Application, "playbackDomain": &n.Playback, "config": &n.Config} {
		if v, given := p.text(name); given {
			*field = v
		}
	}
}

// makeNode is what serverNode.add and an auto-adding report have in common.
func (c *call) makeNode(p params) (*Node, error) {
	if p == nil {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "serverNode")
	}
	kind := p.str("objectType")
	if _, known := nodeTypes[kind]; !known {
		return nil, fail("OBJECT_TYPE_ABSTRACT", "TYPE", "KalturaServerNode")
	}
	n := &Node{Partner: c.partner, ObjectType: kind, Status: NodeDisabled, Application: "kLive"}
	n.fill(p)
	switch {
	case n.Name == "":
		return nil, fail("PROPERTY_VALIDATION_CANNOT_BE_NULL", "PROPERTY", "name")
	case n.HostName == "":
		return nil, fail("PROPERTY_VALIDATION_CANNOT_BE_NULL", "PROPERTY", "hostName")
	case slices.ContainsFunc(c.nodes, func(o *Node) bool { return strings.EqualFold(o.HostName, n.HostName) && o.Status != nodeDeleted }):
		return nil, fail("HOST_NAME_ALREADY_EXISTS", "HOST", n.HostName)
	}
	n.ID = c.nextID()
	c.nodes = append(c.nodes, n)
	return n, nil
}

func addNode(c *call) (any, error) {
	n, err := c.makeNode(c.params.object("serverNode"))
	if err != nil {
		return nil, err
	}
	return c.showNode(n), nil
}

// findNode reads serverNodeId; partners see their own nodes.
func (c *call) findNode() (*Node, error) {
	id := c.params.number("serverNodeId", 0)
	n := c.nodeByID(id)
	if n == nil || !c.all && n.Partner != c.partner {
		return nil, fail("SERVER_NODE_NOT_FOUND_WITH_ID", "ID", strconv.Itoa(id))
	}
	return n, nil
}

func getNode(c *call) (any, error) {
	n, err := c.findNode()
	if err != nil {
		return nil, err
	}
	return c.showNode(n), nil
}

// setNodeStatus is serverNode.enable and serverNode.disable.
func setNodeStatus(status int) func(*call) (any, error) {
	return func(c *call) (any, error) {
		n, err := c.findNode()
		if err != nil {
			return nil, err
		}
		n.Status = status
		return c.showNode(n), nil
	}
}

func updateNode(c *call) (any, error) {
	n, err := c.findNode()
	if err != nil {
		return nil, err
	}
	p := c.params.object("serverNode")
	if p.str("objectType") == "" {
		return nil, fail("OBJECT_TYPE_ABSTRACT", "TYPE", "KalturaServerNode")
	}
	n.fill(p)
	return c.showNode(n), nil
}

func listNodes(c *call) (any, error) {
	var all []any
	like := c.params.object("filter").str("hostNameLike")
	equal := c.params.object("filter").str("hostNameEqual")
	for _, n := range c.nodes {
		if (c.all || n.Partner == c.partner) && (like == "" || strings.EqualFold(n.HostName, like)) && (equal == "" || n.HostName == equal) {
			all = append(all, c.showNode(n))
		}
	}
	return c.page("KalturaServerNodeListResponse", all), nil
}

// reportNode is serverNode.reportStatus, the heartbeat.
func reportNode(c *call) (any, error) {
	host, given := c.params.text("hostName")
	if !given {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "hostName")
	}
	i := slices.IndexFunc(c.nodes, func(n *Node) bool {
		return n.HostName == host && n.Status != NodeDisabled && n.Status != nodeDeleted
	})
	var n *Node
	if i >= 0 {
		n = c.nodes[i]
	} else {
		template := c.params.object("serverNode")
		if template == nil {
			return nil, fail("SERVER_NODE_NOT_FOUND", "HOST", host)
		}
		template["hostName"] = host
		var err error
		if n, err = c.makeNode(template); err != nil {
			return nil, err
		}
	}
	n.Heartbeat, n.Status = c.now, c.params.number("serverNodeStatus", NodeActive)
	if n.Status == nodeNotOperational {
		n.Status = NodeActive
	}
	return c.showNode(n), nil
}

// reportMediaServer is mediaServer.reportStatus of backends before 2016: the
// node appears with its first report.
func reportMediaServer(c *call) (any, error) {
	host, given := c.params.text("hostname")
	if !given {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "hostname")
	}
	n := c.mediaServer(host)
	if n == nil {
		n = &Node{ID: c.nextID(), Partner: c.partner, Name: host, HostName: host, Application: "kLive"}
		c.nodes = append(c.nodes, n)
	}
	n.Status, n.Heartbeat = NodeActive, c.now
	return object{"objectType": "KalturaMediaServer", "id": n.ID, "hostname": host, "dc": 0}, nil
}
