package cue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("very-secret-indeed")
	partner = 102
	entry   = "0_rkij47dr"
)

// direct carries requests to a handler without a network, for virtual time.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// unreachable refuses the first connections.
type unreachable struct {
	http.RoundTripper
	times int
}

func (u *unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.times--; u.times >= 0 {
		return nil, fmt.Errorf("connection refused")
	}
	return u.RoundTripper.RoundTrip(r)
}

// journal keeps events.
type journal struct {
	stream.Journal
	mu     sync.Mutex // guards events
	events []stream.Event
}

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// source is a rendition's packets.
type source struct {
	*pipeline.Log[media.Packet]
	at time.Duration
}

func newSource() *source {
	return &source{Log: pipeline.NewLog(pipeline.Bounds{}, func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS })}
}

func (s *source) Tracks() []*media.Track { return nil }

var (
	video = &media.Track{ID: 1, Kind: media.Video, Codec: media.H264}
	data  = &media.Track{ID: 2, Kind: media.Data, Codec: media.AMF0}
	id3   = &media.Track{ID: 3, Kind: media.Data, Codec: media.ID3}
)

// write appends a data message, and a second of picture after it.
func (s *source) write(t *testing.T, track *media.Track, values ...amf.Value) {
	t.Helper()
	payload, err := amf.Append(nil, values...)
	require.NoError(t, err)
	s.Append(&media.Packet{Track: track, DTS: s.at, PTS: s.at, Payload: payload}, false)
	s.picture(time.Second)
	synctest.Wait() // the log keeps some seconds
}

func (s *source) picture(d time.Duration) {
	for end := s.at + d; s.at < end; s.at += 40 * time.Millisecond {
		s.Append(&media.Packet{Track: video, DTS: s.at, PTS: s.at, Payload: []byte("picture")}, s.at%time.Second == 0)
	}
}

// air is a broadcast.
type air struct {
	info egress.Info

	mu      sync.Mutex // guards the fields below
	list    []pipeline.Rendition
	changed chan struct{}
}

func (a *air) Info() egress.Info { return a.info }

func (*air) Recording() (egress.RecordingMode, <-chan struct{}) { return egress.RecordOff, nil }

func (a *air) Renditions() ([]pipeline.Rendition, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list, a.changed
}

func (a *air) set(list ...pipeline.Rendition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = list
	close(a.changed)
	a.changed = make(chan struct{})
}

// station is a forwarder at work on a broadcast of the source.
type station struct {
	t       *testing.T
	backend *kalturatest.Backend
	journal *journal
	log     *bytes.Buffer
	air     *air
	source  *source
	leave   context.CancelCauseFunc
	done    chan error
}

func onStation(t *testing.T, change func(*client.Options), test func(s *station)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, err := kalturatest.New(kalturatest.Options{
			Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive}}},
			Entries:  []kalturatest.Entry{{ID: entry, Partner: partner, Token: "t", Profile: kalturatest.ProfilePassthrough}},
		})
		require.NoError(t, err)
		o := client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, Transport: direct{b}}
		if change != nil {
			change(&o)
		}
		c, err := client.New(o)
		require.NoError(t, err)
		s := &station{t: t, backend: b, journal: &journal{}, log: &bytes.Buffer{}, source: newSource(), done: make(chan error, 1),
			air: &air{info: egress.Info{Stream: entry, Broadcast: "b1", Partner: partner}, changed: make(chan struct{})}}
		s.air.set(pipeline.Rendition{ID: "32", Source: s.source})
		var ctx context.Context
		ctx, s.leave = context.WithCancelCause(t.Context())
		defer s.leave(nil)
		f := New(Options{Client: c, Journal: s.journal, Logger: slog.New(slog.NewTextHandler(s.log, nil))})
		require.Equal(t, "cue points", f.Name())
		go func() { s.done <- f.Run(ctx, s.air) }()
		synctest.Wait()
		test(s)
	})
}

// end ends the broadcast as the registry does.
func (s *station) end() {
	s.t.Helper()
	s.source.Close()
	s.leave(egress.ErrEnded)
	require.NoError(s.t, <-s.done)
}

func codePoint(properties ...amf.Property) amf.Object {
	return append(amf.Object{{Name: "objectType", Value: "KalturaCodeCuePoint"}}, properties...)
}

func TestCuePointsAreForwarded(t *testing.T) {
	onStation(t, nil, func(s *station) {
		s.source.write(t, data, "onMetaData", amf.ECMAArray{{Name: "width", Value: 1280.0}})
		s.source.write(t, data, "onCuePoint", codePoint(
			amf.Property{Name: "code", Value: "goal"}, amf.Property{Name: "startTime", Value: 12500.0}, amf.Property{Name: "thumbOffset", Value: 1.5},
			amf.Property{Name: "forceStop", Value: true}, amf.Property{Name: "partnerData", Value: `{"player":7}`},
			amf.Property{Name: "id", Value: "mine"}, amf.Property{Name: "entryId", Value: "0_someother"}, amf.Property{Name: "partnerId", Value: 1.0},
			amf.Property{Name: "nested", Value: amf.Object{{Name: "x", Value: "y"}}}, amf.Property{Name: "nothing", Value: amf.Null{}},
			amf.Property{Name: "x:y", Value: "z"}, amf.Property{Name: "tags__null", Value: ""}))
		s.source.write(t, id3, "onCuePoint", codePoint())
		synctest.Wait()
		points := s.backend.State().CuePoints
		require.Len(t, points, 1)
		require.Equal(t, entry, points[0].Entry)
		require.Equal(t, "KalturaCodeCuePoint", points[0].Type)
		require.Equal(t, map[string]string{"objectType": "KalturaCodeCuePoint", "entryId": entry, "code": "goal", "startTime": "12500",
			"thumbOffset": "1.5", "forceStop": "1", "partnerData": `{"player":7}`}, points[0].Fields)
		for _, c := range s.backend.State().Calls {
			require.Equal(t, partner, c.Partner, "in the partner's name")
		}
		s.end()
		require.Len(t, s.journal.events, 1)
		e := s.journal.events[0]
		require.Equal(t, stream.CuePointSent, e.Type)
		require.Equal(t, entry, e.Stream)
		require.Equal(t, points[0].ID, e.Facts["cue_point"])
		require.Empty(t, s.log.String())
	})
}

func TestNothingIsForwardedWithoutAPartner(t *testing.T) {
	require.NoError(t, New(Options{}).Run(t.Context(), &air{}))
}

func TestOnlyCuePointsAreForwarded(t *testing.T) {
	for name, c := range map[string]struct {
		values []amf.Value
		why    string // it is a cue point that cannot be forwarded
	}{
		"another type":       {values: []amf.Value{"x", amf.Object{{Name: "objectType", Value: "KalturaMediaEntry"}, {Name: "name", Value: "CuePoint"}}}},
		"a longer type":      {values: []amf.Value{"x", amf.Object{{Name: "objectType", Value: "KalturaCodeCuePointFilter"}}}},
		"not Kaltura's":      {values: []amf.Value{"x", amf.Object{{Name: "objectType", Value: "CodeCuePoint"}}}},
		"the abstract type":  {values: []amf.Value{"x", amf.Object{{Name: "objectType", Value: "KalturaCuePoint"}}}},
		"type with a colon":  {values: []amf.Value{"x", amf.Object{{Name: "objectType", Value: "Kaltura:xCuePoint"}}}},
		"the name alone":     {values: []amf.Value{"onCuePoint"}},
		"no object":          {values: []amf.Value{"onCuePoint", "KalturaCodeCuePoint"}},
		"in the third place": {values: []amf.Value{"onCuePoint", amf.Null{}, codePoint()}},
		"long text":          {values: []amf.Value{"x", codePoint(amf.Property{Name: "code", Value: string(make([]byte, maxText+1))})}, why: "field code"},
		"control characters": {values: []amf.Value{"x", codePoint(amf.Property{Name: "code", Value: "a\x00b"})}, why: "no text"},
		"not UTF-8":          {values: []amf.Value{"x", codePoint(amf.Property{Name: "code", Value: "a\xffb"})}, why: "no text"},
		"infinite":           {values: []amf.Value{"x", codePoint(amf.Property{Name: "startTime", Value: 1e300})}, why: "1e+300"},
		"many fields":        {values: []amf.Value{"x", codePoint(manyFields(maxFields + 1)...)}, why: "more than 32"},
		"too long":           {values: []amf.Value{"x", codePoint(), string(make([]byte, maxMessage))}, why: "the most is 65536"},
	} {
		payload, err := amf.Append(nil, c.values...)
		require.NoError(t, err)
		_, ok, err := parse(payload)
		require.False(t, ok, name)
		if c.why == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.why, name)
		}
	}
	_, ok, err := parse(append([]byte("CuePoint"), 0xff))
	require.False(t, ok)
	require.Error(t, err)
	payload, err := amf.Append(nil, "x", codePoint(manyFields(maxFields)...))
	require.NoError(t, err)
	cue, ok, err := parse(payload)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, cue.fields, maxFields)
}

func manyFields(n int) (out []amf.Property) {
	for i := range n {
		out = append(out, amf.Property{Name: fmt.Sprintf("field%d", i), Value: float64(i)})
	}
	return out
}

func TestALostAnswerIsNotRepeated(t *testing.T) {
	onStation(t, nil, func(s *station) {
		_, err := s.backend.Inject(kalturatest.Fault{Kind: kalturatest.Lost, Service: "cuepoint_cuepoint", Times: 1})
		require.NoError(t, err)
		s.source.write(t, data, "x", codePoint(amf.Property{Name: "code", Value: "first"}))
		s.source.write(t, data, "x", codePoint(amf.Property{Name: "code", Value: "second"}))
		time.Sleep(time.Minute) // virtual
		points := s.backend.State().CuePoints
		require.Len(t, points, 2)
		require.Equal(t, "second", points[1].Fields["code"])
		s.end()
		require.Len(t, s.journal.events, 1)
		require.Contains(t, s.log.String(), "was not forwarded")
	})
}

func TestACallThatWasNotMadeIsMadeAgain(t *testing.T) {
	for refusals, delivered := range map[int]int{2: 1, 3: 0} {
		onStation(t, func(o *client.Options) { o.Transport = &unreachable{o.Transport, refusals} }, func(s *station) {
			s.source.write(t, data, "x", codePoint())
			time.Sleep(time.Minute) // virtual
			require.Len(t, s.backend.State().CuePoints, delivered)
			s.end()
		})
	}
}

func TestARefusalIsTold(t *testing.T) {
	onStation(t, nil, func(s *station) {
		_, err := s.backend.Inject(kalturatest.Fault{Kind: kalturatest.Code, Service: "cuepoint_cuepoint", Code: "PROPERTY_VALIDATION_CANNOT_BE_NULL"})
		require.NoError(t, err)
		s.source.write(t, data, "x", codePoint())
		time.Sleep(time.Minute) // virtual
		s.end()
		require.Equal(t, 1, s.backend.State().Count("cuepoint_cuepoint.add"))
		require.Contains(t, s.log.String(), "PROPERTY_VALIDATION_CANNOT_BE_NULL")
		require.Empty(t, s.journal.events)
	})
}

// What the operator has to grant is said once, not for each point; what is
// granted meanwhile works at once.
func TestAMissingPermissionIsToldOnce(t *testing.T) {
	onStation(t, nil, func(s *station) {
		id, err := s.backend.Inject(kalturatest.Fault{Kind: kalturatest.Code, Service: "cuepoint_cuepoint", Code: "SERVICE_FORBIDDEN"})
		require.NoError(t, err)
		for range 5 {
			s.source.write(t, data, "x", codePoint())
			time.Sleep(time.Minute) // virtual
		}
		require.Equal(t, 5, s.backend.State().Count("cuepoint_cuepoint.add"), "none is tried again")
		s.backend.ClearFaults(id)
		s.source.write(t, data, "x", codePoint())
		time.Sleep(time.Minute) // virtual
		require.Len(t, s.backend.State().CuePoints, 1)
		s.end()
		require.Equal(t, 1, strings.Count(s.log.String(), "level=WARN"), s.log.String())
		require.Contains(t, s.log.String(), "the permission for cuePoint add")
		require.Len(t, s.journal.events, 1, "of the one that was added")
	})
}

func TestAFloodIsBounded(t *testing.T) {
	onStation(t, nil, func(s *station) {
		began := time.Now()
		for range 500 {
			s.source.write(t, data, "x", codePoint())
			time.Sleep(10 * time.Millisecond) // virtual
			synctest.Wait()
		}
		seconds := time.Since(began).Seconds()
		s.end()
		n := len(s.backend.State().CuePoints)
		require.InDelta(t, burst+seconds*perSecond, n, 2)
		require.Contains(t, s.log.String(), "too many cue points")
		require.Less(t, len(s.journal.events), 4, "events are fewer still")
		total := 0
		for _, e := range s.journal.events {
			count := 1
			_, _ = fmt.Sscan(e.Facts["count"], &count)
			total += count
		}
		require.Equal(t, n, total, "but they tell of all")
	})
}

func TestThePartThatWaitsIsBounded(t *testing.T) {
	r := &reader{waiting: make(chan cuePoint), problems: nil, room: burst}
	for range burst {
		require.True(t, r.spend(time.Unix(100, 0)))
	}
	require.False(t, r.spend(time.Unix(100, 0)))
	require.False(t, r.spend(time.Unix(50, 0)), "a clock that steps back gives nothing")
	require.True(t, r.spend(time.Unix(100, 0)))
}

func TestTheBroadcastEndsWhileTheBackendIsSlow(t *testing.T) {
	onStation(t, nil, func(s *station) {
		_, err := s.backend.Inject(kalturatest.Fault{Kind: kalturatest.Slow, Delay: 4 * time.Second})
		require.NoError(t, err)
		for range 5 {
			s.source.write(t, data, "x", codePoint())
		}
		synctest.Wait()
		began := time.Now()
		s.end()
		require.Equal(t, finishTime, time.Since(began))
		require.Contains(t, s.log.String(), "given up at the end")
		require.Len(t, s.backend.State().CuePoints, 3, "the third was on its way")
	})
}

func TestWhatCameLastIsForwarded(t *testing.T) {
	for name, closed := range map[string]bool{"the log is closed": true, "only the context ends": false} {
		onStation(t, nil, func(s *station) {
			payload, err := amf.Append(nil, "x", codePoint())
			require.NoError(t, err)
			s.source.Append(&media.Packet{Track: data, Payload: payload}, false) // no batch is full
			if closed {
				s.source.Close()
			}
			s.leave(egress.ErrLeaving)
			require.NoError(t, <-s.done)
			require.Len(t, s.backend.State().CuePoints, 1, name)
		})
	}
}

func TestTheSourceIsFollowedWhenItComesLater(t *testing.T) {
	onStation(t, nil, func(s *station) {
		first := s.source
		first.write(t, data, "x", codePoint(amf.Property{Name: "code", Value: "of the second ingest"}))
		synctest.Wait()
		later := newSource()
		s.air.set(pipeline.Rendition{ID: "31", Source: later}, pipeline.Rendition{ID: "32", Source: first})
		later.write(t, data, "x", codePoint(amf.Property{Name: "code", Value: "of the source"}))
		time.Sleep(2 * lookEvery) // virtual
		first.write(t, data, "x", codePoint(amf.Property{Name: "code", Value: "again"}))
		s.source = later
		time.Sleep(time.Second) // virtual
		s.end()
		var codes []string
		for _, p := range s.backend.State().CuePoints {
			codes = append(codes, p.Fields["code"])
		}
		require.Equal(t, []string{"of the second ingest", "of the source"}, codes)
	})
}

func TestWaitsForTheFirstRendition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{info: egress.Info{Stream: entry, Partner: partner}, changed: make(chan struct{})}
		ctx, leave := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- New(Options{}).Run(ctx, a) }()
		synctest.Wait()
		s := newSource()
		a.set(pipeline.Rendition{ID: "32", Source: s})
		synctest.Wait()
		a.set()                   // as nobody does
		time.Sleep(2 * lookEvery) // virtual
		leave(egress.ErrEnded)
		require.NoError(t, <-done)
	})
}

func TestALappedReaderGoesOn(t *testing.T) {
	onStation(t, nil, func(s *station) {
		s.source = newSource()
		s.source.picture(time.Minute) // its beginning has left the log when the reader comes
		s.air.set(pipeline.Rendition{ID: "31", Source: s.source})
		time.Sleep(2 * lookEvery) // virtual
		synctest.Wait()
		s.source.write(t, data, "x", codePoint())
		s.end()
		require.Len(t, s.backend.State().CuePoints, 1)
		require.Contains(t, s.log.String(), "too slow")
	})
}

func FuzzParse(f *testing.F) {
	for _, values := range [][]amf.Value{
		{"onCuePoint", codePoint(amf.Property{Name: "code", Value: "x"}, amf.Property{Name: "startTime", Value: 1.5})},
		{"x", amf.ECMAArray(codePoint(manyFields(3)...))},
		{"x", amf.TypedObject{Class: "c", Properties: codePoint(amf.Property{Name: "at", Value: amf.Date{Milliseconds: 5}})}},
	} {
		payload, err := amf.Append(nil, values...)
		require.NoError(f, err)
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, ok, err := parse(payload)
		if !ok {
			require.Empty(t, c)
			return
		}
		require.NoError(t, err)
		require.Regexp(t, cueType, c.kind)
		require.LessOrEqual(t, len(c.fields), maxFields)
		for name, v := range c.fields {
			require.Regexp(t, fieldName, name)
			require.False(t, settled[name])
			switch v := v.(type) {
			case string:
				require.LessOrEqual(t, len(v), maxText)
			case bool, int64, float64:
			default:
				t.Fatalf("%T is no scalar", v)
			}
		}
	})
}

func BenchmarkDrain(b *testing.B) {
	l := pipeline.NewLog(pipeline.Bounds{Entries: 1 << 15, Bytes: 1 << 40, Time: time.Hour}, func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS })
	p := &media.Packet{Track: video, Payload: make([]byte, 1000)}
	for range 1 << 15 {
		l.Append(p, false)
	}
	l.Close()
	r := &reader{}
	b.ReportAllocs()
	for done := 0; done < b.N; done += 1 << 15 {
		_ = r.drain(b.Context(), l.Subscribe(pipeline.Seq(0)))
	}
}

func BenchmarkParse(b *testing.B) {
	metadata, err := amf.Append(nil, "onMetaData", amf.ECMAArray(manyFields(20)))
	require.NoError(b, err)
	b.ReportAllocs()
	for range b.N {
		_, _, _ = parse(metadata)
	}
}
