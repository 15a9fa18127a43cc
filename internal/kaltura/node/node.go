// Package node makes this server known to the backend as a server node and
// says that it is up. A backend takes registrations of live entries only from
// a node that it knows by exactly its host name.
//
// Node is the type to read first.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// The ways to say that the server is up.
const (
	ReportServerNode  = "server_node"  // serverNode.reportStatus
	ReportMediaServer = "media_server" // mediaServer.reportStatus, of backends before 2016
	ReportNone        = "none"         // a node that never reports counts as up
)

// How often it is said. The backend takes a node that once reported for lost
// after nodeLife.
const (
	heartbeatMin = 45 * time.Second
	heartbeatMax = 55 * time.Second
	nodeLife     = 120 * time.Second
	legacyPeriod = 300 * time.Second
	checkPeriod  = 180 * time.Second // without reports: whether the node is still there
)

// The pauses between tries.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// codeHostExists is the backend's answer to a second node of one host name.
const codeHostExists = "HOST_NAME_ALREADY_EXISTS"

// Options are what a Node needs; all but Logger are required.
type Options struct {
	Client *client.Client
	// Host is this server's name, letter by letter as the backend has it.
	Host, Application string
	Type              string // of the node: KalturaWowzaMediaServerNode
	Report            string // ReportServerNode, ReportMediaServer, ReportNone
	Journal           stream.Journal
	Logger            *slog.Logger
}

// Node is this server as the backend knows it.
type Node struct {
	opts  Options
	log   *slog.Logger
	id    atomic.Int64
	known chan struct{} // closed with the first id
	wake  chan struct{} // holds one: try now

	// Of Run's goroutine alone.
	made    bool          // the node is ours and was not enabled yet
	ensured bool          // it is there: the last try went well
	pause   time.Duration // before the last try, after a failure
	told    string        // what the log was told last

	mu     sync.Mutex // guards status
	status stream.BridgeNode
}

// New makes a Node; nothing is sent before Run.
func New(o Options) *Node {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Node{
		opts: o, log: o.Logger, known: make(chan struct{}), wake: make(chan struct{}, 1),
		status: stream.BridgeNode{Error: "the backend was not asked yet"},
	}
}

// ID is the node's number in the backend, 0 while it is not known.
func (n *Node) ID() int64 { return n.id.Load() }

// Known is closed once ID is known.
func (n *Node) Known() <-chan struct{} { return n.known }

// Status is a snapshot.
func (n *Node) Status() stream.BridgeNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.status
	s.ID = n.id.Load()
	return s
}

// Resync asks the backend again, at once.
func (n *Node) Resync() {
	select {
	case n.wake <- struct{}{}:
	default: // it will, already
	}
}

// Run makes the node known and keeps it so until ctx ends. Whatever the
// backend answers, and when it does not, it goes on trying.
func (n *Node) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.wake:
			n.ensured = false
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := n.try(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		timer.Reset(n.tell(err))
	}
}

// errDisabled: an operator of the backend took the server out of use.
var errDisabled = errors.New("the server node is disabled in the backend; enable it there to let this server carry live entries")

// errUnseen: the backend looks for the node of a report among those that are
// enabled and of the reported type, and tries to make what it does not find.
var errUnseen = errors.New("the backend has the server node, but takes no report of it: it is disabled there, of another type than kaltura.node_type, or written in another case than kaltura.hostname; enable it, or set what it has")

// errHidden is the same of a node that the backend does not list.
var errHidden = errors.New("the backend has a server node with this host name that this partner does not see, and takes no report of it: it is another partner's, or written in another case than kaltura.hostname; set kaltura.hostname to the name that this server has there, or to one of its own")

// errEnable: a backend need not let its media servers enable nodes.
var errEnable = errors.New("the backend made the server node, but does not let this server enable it; enable it there")

// try makes the node known where it is not, and reports.
func (n *Node) try(ctx context.Context) error {
	if n.opts.Report == ReportMediaServer {
		known, err := n.opts.Client.ReportMediaServer(ctx, n.opts.Host)
		if err == nil {
			n.learn(known.ID)
		}
		return err
	}
	if n.opts.Report == ReportNone || !n.ensured {
		if reported, err := n.ensure(ctx); reported || err != nil || n.opts.Report == ReportNone {
			return err
		}
	}
	return n.report(ctx)
}

// report says that the server is up.
func (n *Node) report(ctx context.Context) error {
	known, err := n.opts.Client.ReportNode(ctx, n.self())
	switch {
	case err == nil:
		n.learn(known.ID)
	case client.HasCode(err, codeHostExists):
		return errUnseen
	}
	return err
}

// self is how the server introduces itself.
func (n *Node) self() client.NewNode {
	return client.NewNode{Type: n.opts.Type, Name: n.opts.Host, Host: n.opts.Host, Application: n.opts.Application}
}

// ensure finds the node, or has it made and enabled; reported is true when a
// report did both. A node that was there and is disabled is left so.
func (n *Node) ensure(ctx context.Context) (reported bool, err error) {
	found, ok, err := n.opts.Client.FindNode(ctx, n.opts.Host)
	if err != nil {
		return false, err
	}
	if !ok {
		n.made = true // before the answer: a lost one may leave a disabled node that is ours
		if n.opts.Report == ReportServerNode {
			// It makes and enables in one, and every media server may send it.
			if err = n.report(ctx); !refused(err) {
				_, n.made = errors.AsType[*client.Unavailable](err)
				if errors.Is(err, errUnseen) {
					err = errHidden
				}
				return true, err
			}
		}
		found, err = n.opts.Client.MakeNode(ctx, n.self())
		if client.HasCode(err, codeHostExists) {
			n.made = false
			return false, nil // it is there, but not ours to see: reports show whether it can be used
		}
		if err != nil {
			return false, err
		}
	}
	n.learn(found.ID)
	if !ok || found.Status == client.NodeDisabled {
		if !n.made {
			return false, errDisabled
		}
		err := n.opts.Client.EnableNode(ctx, found.ID)
		if refused(err) {
			return false, fmt.Errorf("%w: %w", errEnable, err)
		}
		if err != nil {
			return false, err
		}
	}
	n.made = false // who disables it from now on means it
	return false, nil
}

// refused reports whether err is an answer of the backend.
func refused(err error) bool {
	_, ok := errors.AsType[*client.Error](err)
	return ok
}

// learn notes the node's number.
func (n *Node) learn(id client.Int) {
	if id != 0 && n.id.Swap(int64(id)) == 0 {
		close(n.known)
	}
}

// tell notes how a try ended, in status, log and event log, and returns the
// pause before the next one.
func (n *Node) tell(err error) time.Duration {
	n.mu.Lock()
	was := n.status.Registered
	n.note(time.Now(), err)
	is := n.status
	n.mu.Unlock()

	n.ensured = err == nil
	if is.Registered && !was {
		n.opts.Journal.Record(stream.Event{
			Type: stream.NodeRegistered, Message: "the backend knows this server as " + n.opts.Host,
			Facts: map[string]string{"host": n.opts.Host, "node": strconv.FormatInt(n.ID(), 10)},
		})
	}
	if kind := kindOf(err); kind != n.told { // a line for each change, not for each try
		switch {
		case err == nil:
			n.log.Info("the backend knows this server", "host", n.opts.Host, "node", n.ID())
		default:
			n.log.Warn("the backend could not be told that this server is up; trying again", "host", n.opts.Host, "registered", is.Registered, "error", err)
		}
		n.told = kind
	}
	if err == nil {
		n.pause = 0
		return n.period()
	}
	n.pause = min(max(2*n.pause, firstPause), maxPause)
	return n.pause/2 + rand.N(n.pause/2)
}

// note writes the outcome into the status; n.mu is held.
func (n *Node) note(now time.Time, err error) {
	_, away := errors.AsType[*client.Unavailable](err)
	switch {
	case err == nil:
		n.status = stream.BridgeNode{Registered: true, LastReport: now}
	case away && n.status.Registered && (n.opts.Report != ReportServerNode || now.Sub(n.status.LastReport) < nodeLife):
		// As far as is known it is registered.
	default:
		n.status.Registered, n.status.Error = false, err.Error()
	}
}

// kindOf tells outcomes apart that are worth a line of the log each.
func kindOf(err error) string {
	if err == nil {
		return "ok"
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refused.Code
	}
	if _, ok := errors.AsType[*client.Unavailable](err); ok {
		return "no answer"
	}
	return err.Error()
}

// period is the pause after a try that went well.
func (n *Node) period() time.Duration {
	switch n.opts.Report {
	case ReportMediaServer:
		return legacyPeriod
	case ReportNone:
		return checkPeriod - rand.N(checkPeriod/10)
	}
	return heartbeatMin + rand.N(heartbeatMax-heartbeatMin)
}
