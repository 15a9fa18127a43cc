package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// MediaServerPartner is the partner under which the media servers of a whole Kaltura backend act. Only its
// sessions may act for every partner and append recordings by path.
const MediaServerPartner = -5

// The values of kaltura.mode.
const (
	KalturaOff  = "off"  // the catalog of this server says who may publish
	KalturaSaaS = "saas" // media server of a whole backend: partner -5 acts for the partner of each entry
	KalturaECDN = "ecdn" // media server of one partner, who acts for himself
)

// The values of kaltura.delivery.
const (
	DeliveryAuto       = "auto"
	DeliverySharedDisk = "shared_disk"
	DeliveryUpload     = "upload"
)

// Kaltura is the section kaltura: the bridge to a Kaltura backend.
type Kaltura struct {
	Mode             string        `key:"mode" enum:"off,saas,ecdn" doc:"Whether a Kaltura backend says who may publish what. saas: this is a media server of the whole backend, acting as partner -5 for the partner of each entry. ecdn: it belongs to one partner and acts as that partner. off: streams are those of this server."`
	URL              string        `key:"url" doc:"Address of the backend, such as https://www.example.com; /api_v3 is added."`
	PartnerID        int           `key:"partner_id" min:"-5" max:"2147483647" doc:"Partner whose admin secret this is: -5 in saas mode, the own partner in ecdn mode."`
	AdminSecret      Secret        `key:"admin_secret" doc:"Admin secret of that partner. Better given by environment than in a file."`
	Hostname         string        `key:"hostname" doc:"Name of this server in the backend, letter by letter; empty is the full host name of the machine. Two servers with one name take each other's entries."`
	Application      string        `key:"application" doc:"Application name the backend puts into broadcast and playback addresses."`
	ReconnectWindow  time.Duration `key:"reconnect_window" min:"0s" max:"1h" doc:"How long an entry waits for a publisher that went away before its broadcast ends; takes the place of limits.reconnect_window. A return within it continues the same recording."`
	Profile          string        `key:"profile" enum:"template,flavors" doc:"Where the ladder of an entry is read first: the transcoding template (wowza_liveConversionProfile) or the flavors of its conversion profile. The other one is the fallback."`
	Encoding         string        `key:"encoding" enum:"json,form" doc:"How calls to the backend are encoded; form is for backends that know no JSON."`
	Session          string        `key:"session" enum:"local,start" doc:"How sessions (KS) are made: signed here, or asked of the backend by session.start, which sends the secret."`
	SessionVersion   int           `key:"session_version" min:"1" max:"2" doc:"Version of sessions signed here; 1 is for very old backends."`
	Timeout          time.Duration `key:"timeout" min:"1s" max:"5m" doc:"Time the backend has to answer one call."`
	NodeType         string        `key:"node_type" enum:"KalturaWowzaMediaServerNode,KalturaLiveClusterMediaServerNode" doc:"Type of server node this server registers as; the backend makes playback addresses by it."`
	NodeReport       string        `key:"node_report" enum:"server_node,media_server,none" doc:"How this server says that it is alive: serverNode.reportStatus, mediaServer.reportStatus of backends before 2016, or not at all."`
	Delivery         string        `key:"delivery" enum:"auto,shared_disk,upload" doc:"How recorded pieces reach the backend: by path on a disk both see, or by upload. auto is shared_disk for partner -5 and upload for others, from whom the backend takes no paths."`
	SharedDirectory  string        `key:"shared_directory" doc:"Folder on the shared disk where pieces are handed over, as this server sees it: an absolute path; empty hands them over where they were recorded."`
	BackendDirectory string        `key:"backend_directory" doc:"The shared directory as the backend sees it; empty is the same path."`
	UploadChunk      Size          `key:"upload_chunk" min:"64KiB" max:"1GiB" doc:"Most bytes of one upload call; an upload that broke goes on at the last whole chunk."`
	SRTKey           Secret        `key:"srt_key" doc:"Key with which the backend seals SRT passphrases into stream ids (ep=): its live_security_key. Empty is klive, as backends are delivered."`
	SRTIV            Secret        `key:"srt_iv" doc:"Vector that goes with srt_key: the first 16 bytes of the backend's stream_id_security_key; empty is zeros."`
}

// Enabled reports whether a Kaltura backend is configured.
func (k Kaltura) Enabled() bool { return k.Mode == KalturaSaaS || k.Mode == KalturaECDN }

// SealKey is the key with which the backend seals SRT passphrases.
func (k Kaltura) SealKey() string {
	if k.SRTKey == "" {
		return "klive"
	}
	return k.SRTKey.Reveal()
}

// SharedDisk reports whether recorded pieces are delivered by path rather than by upload.
func (k Kaltura) SharedDisk() bool {
	return k.Delivery == DeliverySharedDisk || k.Delivery == DeliveryAuto && k.Mode == KalturaSaaS && k.PartnerID == MediaServerPartner
}

// Recording is the section recording.
type Recording struct {
	SegmentDuration time.Duration `key:"segment_duration" min:"10s" max:"2h" doc:"Length of one recorded piece, about: it is closed where the first segment ends after this time. A Kaltura backend gets a piece once it is closed."`
	Directory       string        `key:"directory" doc:"Folder of the recorded pieces; empty is the folder recordings below data_dir."`
	Group           string        `key:"group" doc:"Group that may read the recorded pieces and their folders: its name or number, such as kaltura (gid 613 on a Kaltura install). Needed where the backend reads them on a shared disk as another user. Empty leaves them to the server's own group."`
	Retention       time.Duration `key:"retention" min:"0s" max:"87600h" doc:"How long a finished recording is kept; 0s keeps it until it is deleted. A piece the backend has not got yet, or perhaps not, is never deleted."`
}

func defaultKaltura() Kaltura {
	return Kaltura{
		Mode:            KalturaOff,
		PartnerID:       MediaServerPartner,
		Application:     "kLive",
		ReconnectWindow: 180 * time.Second,
		Profile:         "template",
		Encoding:        "json",
		Session:         "local",
		SessionVersion:  2,
		Timeout:         30 * time.Second,
		NodeType:        "KalturaWowzaMediaServerNode",
		NodeReport:      "server_node",
		Delivery:        DeliveryAuto,
		UploadChunk:     8 << 20,
	}
}

// warnings returns sentences about what is allowed and yet seldom meant. None holds a secret.
func (c Config) warnings() []string {
	var warnings []string
	if k := c.Kaltura; k.Enabled() && k.Session == "start" && strings.HasPrefix(k.URL, "http:") {
		warnings = append(warnings, "kaltura.session: start sends the admin secret to the backend in the clear, because kaltura.url is not https")
	}
	return warnings
}

var (
	hostName        = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]{0,251}[0-9A-Za-z])?$`)
	applicationName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
)

// kaltura holds the section kaltura to its rules. A section that is off may be half filled in.
func (v *checker) kaltura(c Config) {
	k := c.Kaltura
	if k.AdminSecret == mask {
		v.fail("kaltura.admin_secret", "is the mask that a printed configuration shows, not a secret; set the secret itself")
	}
	for _, secret := range []struct {
		path string
		text Secret
	}{{"kaltura.srt_key", k.SRTKey}, {"kaltura.srt_iv", k.SRTIV}} {
		if secret.text == mask {
			v.fail(secret.path, "is the mask that a printed configuration shows, not a key; set the backend's own")
		}
	}
	if !k.Enabled() {
		return
	}
	if len(c.Streams) > 0 {
		v.fail("streams", "cannot stand beside kaltura.mode: %s: the backend says which entries exist and who may publish; remove the streams, or set kaltura.mode: off", k.Mode)
	}
	v.backendURL(k.URL)
	switch secret := k.AdminSecret.Reveal(); {
	case secret == "":
		v.fail("kaltura.admin_secret", "is missing; set the admin secret of partner %d (KLIVE_KALTURA_ADMIN_SECRET keeps it out of the file)", k.PartnerID)
	case len(secret) > maxToken:
		v.fail("kaltura.admin_secret", "is longer than %d bytes", maxToken)
	case !printableText.MatchString(secret):
		v.fail("kaltura.admin_secret", "may hold only printable characters")
	}
	switch {
	case k.Mode == KalturaECDN && k.PartnerID <= 0:
		v.fail("kaltura.partner_id", "must be your own partner number in ecdn mode, not %d; %d is for media servers of the whole backend (saas)", k.PartnerID, MediaServerPartner)
	case k.PartnerID != MediaServerPartner && k.PartnerID <= 0:
		v.fail("kaltura.partner_id", "must be %d, or the number of a partner, not %d", MediaServerPartner, k.PartnerID)
	}
	if k.Hostname != "" && !hostName.MatchString(k.Hostname) {
		v.fail("kaltura.hostname", "must be a host name such as live1.example.com, without a port, not %s", quoted(k.Hostname))
	}
	if !applicationName.MatchString(k.Application) {
		v.fail("kaltura.application", "must be 1 to 64 letters, digits, _ and -, such as kLive, not %s", quoted(k.Application))
	}
	v.handover(k)
}

func (v *checker) backendURL(text string) {
	const path = "kaltura.url"
	u, err := url.Parse(text)
	switch {
	case text == "":
		v.fail(path, "is missing; set the address of the backend, such as https://www.example.com")
	case strings.Contains(text, "@"): // also where it cannot be read: a password in it is not repeated
		v.fail(path, "holds a user name; remove it: the backend is called with sessions made of kaltura.admin_secret")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		v.fail(path, "must be an address such as https://www.example.com, not %s", quoted(text))
	}
}

// handover holds the keys of the delivery of recordings together.
func (v *checker) handover(k Kaltura) {
	if k.Delivery == DeliverySharedDisk && k.PartnerID != MediaServerPartner {
		v.fail("kaltura.delivery", "cannot be %s for partner %d: the backend takes files by path only from partner %d; set %s or %s",
			DeliverySharedDisk, k.PartnerID, MediaServerPartner, DeliveryUpload, DeliveryAuto)
		return
	}
	for _, d := range []struct{ path, dir string }{
		{"kaltura.shared_directory", k.SharedDirectory},
		{"kaltura.backend_directory", k.BackendDirectory},
	} {
		switch {
		case d.dir == "":
		case !k.SharedDisk():
			v.fail(d.path, "is only for delivery over a shared disk, and recordings are uploaded here; remove it, or set kaltura.delivery: %s", DeliverySharedDisk)
		case !filepath.IsAbs(d.dir):
			v.fail(d.path, "must be an absolute path, such as /mnt/kaltura/live, because the backend is told it, not %s", quoted(d.dir))
		}
	}
	if k.SharedDisk() && k.SharedDirectory == "" && k.BackendDirectory != "" {
		v.fail("kaltura.backend_directory", "has no kaltura.shared_directory; set the folder that the backend sees under this path")
	}
}
