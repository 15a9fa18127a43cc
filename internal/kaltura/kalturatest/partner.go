package kalturatest

import (
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// The features of partners that the simulator asks for.
const (
	FeatureLive          = "FEATURE_LIVE_STREAM"
	FeatureTranscode     = "FEATURE_KALTURA_LIVE_STREAM_TRANSCODE"
	FeatureRecording     = "FEATURE_LIVE_STREAM_KALTURA_RECORDING" // the controller records; appends are refused
	FeatureServerNode    = "FEATURE_SERVER_NODE"
	FeatureMediaServer   = "MEDIA_SERVER_PARTNER_LEVEL" // an eCDN partner may act as a media server
	FeatureHybrid        = "FEATURE_HYBRID_ECDN"
	FeatureNoSmartLadder = "FEATURE_KALTURA_LIVE_DISABLE_SMART_TRANSCODING"
)

// Partner is an account of the backend.
type Partner struct {
	ID       int
	Secret   ks.Secret // the admin secret; several are joined with commas
	Features []string
	Blocked  bool
	// The quotas; 0 means the backend's default of 10. Transcoded streams
	// are not allowed without FeatureTranscode, whatever the number.
	MaxPassthrough, MaxTranscoded int
	// TagLimits replaces both quotas for entries that carry one of the tags.
	TagLimits map[string]int
}

const defaultQuota = 10

func (p *Partner) has(feature string) bool { return slices.Contains(p.Features, feature) }

func (p *Partner) secrets() []ks.Secret {
	var out []ks.Secret
	for s := range strings.SplitSeq(p.Secret.Reveal(), ",") {
		if s != "" {
			out = append(out, ks.Secret(s))
		}
	}
	return out
}

func (p *Partner) passthroughQuota() int {
	if p.MaxPassthrough == 0 {
		return defaultQuota
	}
	return p.MaxPassthrough
}

func (p *Partner) transcodedQuota() int {
	switch {
	case !p.has(FeatureTranscode):
		return 0
	case p.MaxTranscoded == 0:
		return defaultQuota
	}
	return p.MaxTranscoded
}
