package stream

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
)

// refusals are the events of refusals that the journal got.
func (j *journal) refusals() (out []Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Type == PublishRefused {
			out = append(out, e)
		}
	}
	return out
}

func badRequest(stream, remote string) ingest.Request {
	return ingest.Request{
		Protocol: "rtmp", Stream: stream, Index: 1, Token: "bad", Remote: netip.MustParseAddrPort(remote),
		Encoder: "OBS", Counters: new(ingest.Counters),
	}
}

func TestRepeatedRefusalsAreOneEventAWindow(t *testing.T) {
	onStation(t, nil, func(st *station) {
		for range 5 { // an encoder that tries every two seconds
			_, err := st.reg.Open(t.Context(), badRequest("lobby", "192.0.2.1:4000"))
			require.Equal(t, fault.BadToken, fault.ReasonOf(err))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(tick)
		events := st.journal.refusals()
		require.Len(t, events, 2)
		require.Equal(t, "lobby", events[0].Stream)
		require.NotContains(t, events[0].Facts, "count")
		require.Equal(t, "OBS", events[0].Facts["encoder"])
		require.Equal(t, "4", events[1].Facts["count"])
		require.Equal(t, fault.BadToken, events[1].Reason)
		require.Equal(t, "wrong (the last of 4 refusals in 10s)", events[1].Message)

		_, err := st.reg.Open(t.Context(), badRequest("lobby", "192.0.2.2:4000"))
		require.Error(t, err)
		require.Len(t, st.journal.refusals(), 3, "another address is told at once")
		require.Equal(t, uint64(6), st.reg.Counters().Refused()[fault.BadToken])

		time.Sleep(3 * refusalWindow)
		st.reg.refusals.mu.Lock()
		defer st.reg.refusals.mu.Unlock()
		require.Empty(t, st.reg.refusals.sources, "who went away is forgotten")
	})
}

func TestAFloodOfRefusalsWritesFewEvents(t *testing.T) {
	const hour = 3600
	onStation(t, nil, func(st *station) {
		for i := range hour {
			for k := range 3 { // other names from one address, and one name from everywhere
				_, _ = st.reg.Open(t.Context(), badRequest(fmt.Sprintf("no-%d-%d", i, k), "192.0.2.1:4000"))
			}
			var ip [4]byte
			binary.BigEndian.PutUint32(ip[:], uint32(10<<24+i)) //nolint:gosec // small
			_, _ = st.reg.Open(t.Context(), badRequest("lobby", netip.AddrPortFrom(netip.AddrFrom4(ip), 1).String()))
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, len(st.journal.refusals()), refusalBurst+hour*refusalsPerSecond)
		require.NotZero(t, st.reg.UntoldRefusals())
		require.LessOrEqual(t, len(st.reg.refusals.sources), maxRefusalSources)
		require.Equal(t, uint64(4*hour), st.reg.Counters().Refused()[fault.BadToken], "every one is counted")
	})
}

func TestOneAddressHasFewEvents(t *testing.T) {
	l, now := newRefusals(), time.Unix(1e9, 0)
	at := func(addr string, i int) bool {
		e := Event{Time: now, Type: PublishRefused, Stream: fmt.Sprint("s", i), Reason: fault.StreamNotFound, Message: "no", Facts: map[string]string{}}
		return l.hear(netip.MustParseAddr(addr), e)
	}
	for i := range 100 {
		require.Equal(t, i < maxRefusalKinds, at("2001:db8::1", i))
	}
	require.False(t, at("2001:db8::ffff", 200), "one /64 is one address")
	require.True(t, at("2001:db8:0:1::", 201))
	events := l.due(now.Add(refusalWindow))
	require.Len(t, events, 1, "the rest is one event")
	require.Empty(t, events[0].Stream)
	require.Equal(t, fmt.Sprint(100-maxRefusalKinds+1), events[0].Facts["count"])
	require.Zero(t, l.Untold())
}

func TestADoorsRefusalsAreTold(t *testing.T) {
	onStation(t, nil, func(st *station) {
		r := ingest.Request{Protocol: "rtmp", Remote: netip.MustParseAddrPort("192.0.2.1:4000"), Encoder: "OBS"}
		st.reg.Refused(r, fault.New(fault.MissingArgument, "the token (t) is missing").With("code", "MISSING_TOKEN"))
		st.reg.Refused(r, nil)
		events := st.journal.refusals()
		require.Len(t, events, 1)
		require.Equal(t, fault.MissingArgument, events[0].Reason)
		require.Equal(t, "192.0.2.1:4000", events[0].Facts["remote"])
		require.Equal(t, "MISSING_TOKEN", events[0].Facts["code"])
	})
}
