package srt

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	wire "github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/internal/srt/srttest"
)

func requireCode(t testing.TB, code int, err error) {
	t.Helper()
	rejected, ok := errors.AsType[*srttest.Rejected](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, rejected.Code)
}

func TestCodesTellRefusalsApart(t *testing.T) {
	w := witness{make(chan string, 16)}
	g := newGate()
	g.refuse = func(r ingest.Request) error {
		switch r.Index {
		case 3:
			return fault.New(fault.StreamBusy, "another encoder")
		case 4:
			return fault.New(fault.TooManyStreams, "full")
		case 5:
			return fault.New(fault.BackendUnavailable, "is being asked")
		case 6:
			panic("a test wants it so")
		}
		return checkToken(r)
	}
	d := open(t, g, func(o *Options) { o.Witness = w })
	for id, code := range map[string]int{
		"#!::r=lobby_1,token=wrong":             CodeUnauthorized,
		"#!::r=hall_1,token=s3cret":             CodeNotFound,
		"#!::r=lobby_1,m=request,token=s3cret":  CodeBadMode,
		"#!::r=lobby,token=s3cret":              CodeBadStreamID,
		"#!::r=lobby_1":                         CodeBadStreamID,
		strings.Repeat("x", ingest.MaxStreamID): CodeBadStreamID,
		"#!::r=lobby_3,token=s3cret":            CodeBusy,
		"#!::r=lobby_4,token=s3cret":            CodeOverloaded,
		"#!::r=lobby_5,token=s3cret":            CodeUnavailable,
		"#!::r=lobby_6,token=s3cret":            CodeInternal,
	} {
		t.Run(id[:min(40, len(id))], func(t *testing.T) {
			_, err := d.dial(srttest.Options{StreamID: id})
			requireCode(t, code, err)
		})
	}
	_, err := d.dial(srttest.Options{Passphrase: "0123456789"})
	requireCode(t, wire.CodeUnsecure, err)
	heard := map[string]int{}
	for range 5 { // the gate tells of those it was asked about
		heard[await(t, w.heard, "testimony")]++
	}
	require.Equal(t, map[string]int{
		"srt 127.0.0.1  BAD_ADDRESS": 1, "srt 127.0.0.1  BAD_STREAM_NAME": 1, "srt 127.0.0.1  MISSING_ARGUMENT": 2,
		"srt 127.0.0.1 lobby BAD_PASSPHRASE": 1,
	}, heard)
	require.EqualValues(t, 1, d.stats.Panics.Load())
	require.Empty(t, d.gate.opened)
	require.Zero(t, d.stats.Accepted.Load())
	require.EqualValues(t, 1, d.stats.Refused()[fault.BadToken])
	require.EqualValues(t, 1, d.stats.Refused()[fault.BadPassphrase])
	require.NotContains(t, d.log.String(), "s3cret")
	longest := "#!::r=lobby_1,token=s3cret,x=" + strings.Repeat("x", ingest.MaxStreamID-29)
	d.call(t, srttest.Options{StreamID: longest})
	await(t, d.gate.opened, "publication with the longest stream id")
}

func TestNoStreamID(t *testing.T) {
	d := open(t, newGate(), nil)
	_, err := srttest.Dial(d.addr, srttest.Options{})
	requireCode(t, CodeBadStreamID, err)
}

// The caller is let in before he gives up, and a refusal
// that comes later is told with the next try.
func TestRefusalBehindTheHandshakeIsToldWithTheNextTry(t *testing.T) {
	g := newGate()
	release, asked := make(chan struct{}), make(chan struct{}, 1)
	g.refuse = func(r ingest.Request) error {
		if r.Token == "wrong" {
			asked <- struct{}{}
			<-release
		}
		return checkToken(r)
	}
	d := open(t, g, nil)
	const wrong = "#!::r=lobby_1,token=wrong"
	c := d.call(t, srttest.Options{StreamID: wrong}) // about answerWithin
	await(t, asked, "question")
	close(release)
	untilGone(t, c)
	_, err := d.dial(srttest.Options{StreamID: wrong})
	requireCode(t, CodeUnauthorized, err)
	require.Empty(t, asked, "nobody was asked again")
	d.call(t, srttest.Options{})
	await(t, d.gate.opened, "publication: a wrong token locks nobody out")
}

func TestRefusalsAreForgotten(t *testing.T) {
	r := newRefusals()
	now := time.Now()
	here := netip.MustParseAddr("192.0.2.1")
	bad := fault.New(fault.BadToken, "no")
	r.keep(here, "a", bad, now)
	require.Equal(t, bad, r.find(here, "a", now.Add(keptFor)))
	require.Nil(t, r.find(here, "b", now))
	require.Nil(t, r.find(netip.MustParseAddr("192.0.2.2"), "a", now))
	require.Nil(t, r.find(here, "a", now.Add(keptFor+1)))
	r.keep(here, "busy", fault.New(fault.StreamBusy, "no"), now)
	require.Nil(t, r.find(here, "busy", now))
	for i := range 2 * maxRefusals {
		r.keep(here, fmt.Sprint(i), bad, now)
	}
	require.Len(t, r.kept, maxRefusals)
	r.keep(here, "later", bad, now.Add(2*keptFor))
	require.Len(t, r.kept, 1)
}

func TestCodes(t *testing.T) {
	for reason, code := range map[fault.Reason]int{
		fault.BadToken: 1401, fault.StreamNotFound: 1404, fault.StreamBusy: 1409, fault.OnAirElsewhere: 1409, fault.WrongPartner: 1403,
		fault.TooManyAttempts: 1402, fault.LimitExceeded: 1402, fault.QuotaExceeded: 1402, fault.ServerDraining: 1503,
		fault.StreamStopped: 1423, fault.InternalError: 1500, fault.BackendUnavailable: 1503, fault.BackendRefused: 1502,
		fault.UnknownApplication: 1400, fault.NotInProfile: 1406, "NO_SUCH_REASON": 1500,
	} {
		require.Equal(t, code, Code(fault.New(reason, "no")), reason)
	}
}
