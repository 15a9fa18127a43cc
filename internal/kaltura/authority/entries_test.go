package authority_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/stream"
)

func TestPolicyOf(t *testing.T) {
	six := 6 * time.Second
	for name, c := range map[string]struct {
		entry client.Entry
		want  egress.Policy
	}{
		"nothing":               {client.Entry{}, egress.Policy{SegmentDuration: six}},
		"segments":              {client.Entry{SegmentDuration: 2000}, egress.Policy{SegmentDuration: 2 * time.Second}},
		"segments too short":    {client.Entry{SegmentDuration: 999}, egress.Policy{SegmentDuration: six}},
		"segments too long":     {client.Entry{SegmentDuration: 20001}, egress.Policy{SegmentDuration: six}},
		"segments negative":     {client.Entry{SegmentDuration: -1}, egress.Policy{SegmentDuration: six}},
		"DVR":                   {client.Entry{DVR: true, DVRWindow: 120}, egress.Policy{SegmentDuration: six, DVR: egress.DVR{Enabled: true, Window: 2 * time.Hour}}},
		"DVR, server's window":  {client.Entry{DVR: true}, egress.Policy{SegmentDuration: six, DVR: egress.DVR{Enabled: true, Window: 2 * time.Hour}}},
		"DVR, negative window":  {client.Entry{DVR: true, DVRWindow: -5}, egress.Policy{SegmentDuration: six, DVR: egress.DVR{Enabled: true, Window: 2 * time.Hour}}},
		"DVR, absurd window":    {client.Entry{DVR: true, DVRWindow: 1 << 62}, egress.Policy{SegmentDuration: six, DVR: egress.DVR{Enabled: true, Window: 366 * 24 * time.Hour}}},
		"window without DVR":    {client.Entry{DVRWindow: 120}, egress.Policy{SegmentDuration: six}},
		"appended":              {client.Entry{Record: 1, RecordingStatus: 2}, egress.Policy{SegmentDuration: six, Recording: egress.RecordAppended}},
		"per session":           {client.Entry{Record: 2}, egress.Policy{SegmentDuration: six, Recording: egress.RecordPerSession}},
		"unknown record status": {client.Entry{Record: 3}, egress.Policy{SegmentDuration: six}},
		"preview, not recorded": {client.Entry{Record: 1, ExplicitLive: true}, egress.Policy{SegmentDuration: six}},
		"preview, paused":       {client.Entry{Record: 1, ExplicitLive: true, RecordingStatus: 1}, egress.Policy{SegmentDuration: six}},
		"preview, recorded":     {client.Entry{Record: 2, ExplicitLive: true, RecordingStatus: 2}, egress.Policy{SegmentDuration: six, Recording: egress.RecordPerSession}},
		"low latency":           {client.Entry{AdminTags: "a, LowLatency"}, egress.Policy{SegmentDuration: six, LowLatency: true}},
		"another tag":           {client.Entry{AdminTags: "nolowlatency"}, egress.Policy{SegmentDuration: six}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, authority.PolicyOf(c.entry)) })
	}
}

func TestEntriesAreListedWhileSomebodyMayWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, func(o *kalturatest.Options) {
			o.Entries[0].DVR, o.Entries[0].DVRWindow = true, 180
			o.Entries = append(o.Entries, liveEntry("1_nodvr000", func(e *kalturatest.Entry) { e.Name = "No DVR" }),
				liveEntry("1_dvr00000", func(e *kalturatest.Entry) { e.DVR = true }))
		})
		b := newBench(t, backend, nil)
		stop := b.run(t)
		defer stop()
		list := b.Entries()
		ids := func() (out []string) {
			all, err := list.List(t.Context())
			require.NoError(t, err)
			for _, e := range all {
				got, err := list.Get(t.Context(), e.ID)
				require.NoError(t, err)
				require.Equal(t, e, got)
				out = append(out, e.ID)
			}
			return out
		}
		require.Empty(t, ids())
		changed := list.Changed()
		began := time.Now()
		for _, id := range []string{entry, "1_nodvr000", "1_dvr00000"} {
			for index := range 2 {
				_, err := b.try(t, request(func(r *ingest.Request) { r.Stream, r.ServerIndex = id, index }))
				require.NoError(t, err)
				b.live.begin(book.Key{Entry: id, Index: index})
				time.Sleep(time.Second)
			}
		}
		<-changed
		require.Equal(t, []string{entry, "1_dvr00000", "1_nodvr000"}, ids())
		e, err := list.Get(t.Context(), entry)
		require.NoError(t, err)
		require.Equal(t, stream.Entry{ID: entry, DisplayName: "Town hall", Partner: partner, Origin: stream.FromKaltura, Created: began, Updated: began.Add(time.Second)}, e)

		time.Sleep(5 * time.Hour)
		require.Len(t, ids(), 3, "on air")
		for _, id := range []string{entry, "1_nodvr000", "1_dvr00000"} {
			for index := range 2 {
				b.live.end(book.Key{Entry: id, Index: index})
				require.NoError(t, b.book.End(t.Context(), book.Key{Entry: id, Index: index}, time.Now()))
			}
		}
		time.Sleep(59 * time.Minute)
		require.Len(t, ids(), 3)
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{entry, "1_dvr00000"}, ids())
		time.Sleep(time.Hour)
		require.Equal(t, []string{entry}, ids())
		time.Sleep(time.Hour)
		require.Empty(t, ids())
		_, err = list.Get(t.Context(), entry)
		require.Equal(t, fault.StreamNotFound, fault.ReasonOf(err))
		require.Len(t, b.book.List(), 6, "kept another day")
		time.Sleep(22 * time.Hour)
		require.Len(t, b.book.List(), 4)
		time.Sleep(3 * time.Hour)
		require.Empty(t, b.book.List())
	})
}

func TestEntriesAreChangedInTheBackend(t *testing.T) {
	list := newBench(t, newBackend(t, nil), nil).Entries()
	var errs [5]error
	_, _, errs[0] = list.Create(t.Context(), stream.Entry{ID: entry}, stream.Secrets{})
	_, errs[1] = list.Update(t.Context(), stream.Entry{ID: entry}, nil, 0)
	errs[2] = list.Delete(t.Context(), entry, 0)
	_, _, errs[3] = list.RotateToken(t.Context(), entry)
	_, errs[4] = list.Secrets(t.Context(), entry)
	for _, err := range errs {
		require.Equal(t, fault.ManagedByKaltura, fault.ReasonOf(err))
		require.Equal(t, fault.FailedPrecondition, fault.From(err).Code)
		require.ErrorContains(t, err, "KMC")
	}
}

func TestGrantsOnAirAreNotedForACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newBackend(t, nil), nil)
		_, err := b.try(t, request(nil))
		require.NoError(t, err)
		b.live.begin(primary)
		stop := b.run(t)
		time.Sleep(time.Hour + time.Second)
		before := b.records.Writes()
		time.Sleep(time.Minute)
		require.Equal(t, 6, b.records.Writes()-before, "one write each 10 s, however many are on air")

		b.records.Fail(errors.New("disk full"))
		time.Sleep(time.Minute)
		b.records.Fail(nil)
		crashed, err := book.New(t.Context(), b.records)
		require.NoError(t, err)
		g, _ := crashed.Get(primary)
		require.InDelta(t, 60, time.Since(g.Seen).Seconds(), 11)
		stop()
		stopped, err := book.New(t.Context(), b.records)
		require.NoError(t, err)
		g, _ = stopped.Get(primary)
		require.Zero(t, time.Since(g.Seen), "the last word of a server that stops")
	})
}

func TestPlayback(t *testing.T) {
	b := newBench(t, newBackend(t, nil), nil)
	tokens, err := auth.NewTokens([]auth.Token{{Name: "wall", Secret: "look", Role: auth.Viewer}})
	require.NoError(t, err)
	p := b.Playback(auth.Chain{tokens, authority.NewVerifier(-5, secret)})
	session := ks.Sign(secret, ks.Session{Partner: -5, Type: ks.Admin, Expires: time.Now().Add(time.Hour)}).Reveal()

	const preview = "0_preview1"
	_, err = b.try(t, request(nil))
	require.NoError(t, err)
	for index := range 2 {
		_, err = b.try(t, request(func(r *ingest.Request) { r.Stream, r.ServerIndex = preview, index }))
		require.NoError(t, err)
	}
	require.False(t, p.Restricted(entry))
	require.True(t, p.Restricted(preview))
	require.True(t, p.Restricted("0_unknown0"), "what is forgotten does not become public")
	for _, c := range []struct {
		stream, header string
		want           fault.Reason
	}{
		{entry, "", ""},
		{entry, "Bearer nonsense", ""},
		{preview, "", fault.PreviewOnly},
		{preview, "Bearer nonsense", fault.PreviewOnly},
		{preview, "Basic bG9vaw==", fault.PreviewOnly},
		{preview, "Bearer look", ""},
		{preview, "Bearer " + session, ""},
		{"0_unknown0", "", fault.PreviewOnly},
		{"0_unknown0", "Bearer look", ""},
	} {
		err := p.MayPlay(t.Context(), auth.PlayRequest{Stream: c.stream, Header: c.header})
		require.Equal(t, c.want, fault.ReasonOf(err), "%s %s", c.stream, c.header)
	}
	require.Equal(t, fault.PreviewOnly, fault.ReasonOf(b.Playback(nil).MayPlay(t.Context(), auth.PlayRequest{Stream: preview, Header: "Bearer look"})))

	// It goes live as the lifecycle hears of it, at the index that is in use.
	golive := func(index, mode int) {
		t.Helper()
		_, ok, err := b.book.Update(t.Context(), book.Key{Entry: preview, Index: index}, func(g *book.Grant) { g.Snapshot.ViewMode = client.Int(mode) })
		require.NoError(t, err)
		require.True(t, ok)
	}
	golive(0, 1)
	require.True(t, p.Restricted(preview), "one of them says that it is not live yet")
	require.NoError(t, b.book.End(t.Context(), book.Key{Entry: preview, Index: 1}, time.Now()))
	require.False(t, p.Restricted(preview))
	require.NoError(t, b.book.End(t.Context(), book.Key{Entry: preview, Index: 0}, time.Now().Add(time.Second)))
	require.False(t, p.Restricted(preview), "as it was when it ended last")
	golive(0, 0)
	require.True(t, p.Restricted(preview))

	require.Zero(t, testing.AllocsPerRun(100, func() { p.Restricted(entry) }), "it is asked for each segment")
}

func TestVerifier(t *testing.T) {
	now := time.Now()
	admin := ks.Session{Partner: 102, Type: ks.Admin, Expires: now.Add(time.Hour), User: "alice", Privileges: ks.ParsePrivileges("disableentitlement,list:*")}
	with := func(change func(*ks.Session)) ks.Session {
		s := admin
		change(&s)
		return s
	}
	v := authority.NewVerifier(102, "old-secret, new-secret,")
	v1 := func(secret ks.Secret, s ks.Session) string { return ks.SignV1(secret, s, "12345").Reveal() }
	v2 := func(secret ks.Secret, s ks.Session) string { return ks.Sign(secret, s).Reveal() }
	for name, sign := range map[string]func(ks.Secret, ks.Session) string{"version 1": v1, "version 2": v2} {
		for _, c := range []struct {
			name  string
			token string
			want  string
			fails string
		}{
			{name: "first secret", token: sign("old-secret", admin), want: "ks:alice"},
			{name: "second secret", token: sign("new-secret", admin), want: "ks:alice"},
			{name: "no user", token: sign("new-secret", with(func(s *ks.Session) { s.User = "" })), want: "ks:102"},
			{name: "odd user", token: sign("new-secret", with(func(s *ks.Session) { s.User = "a\n\tb" })), want: "ks:ab"},
			{name: "expired", token: sign("new-secret", with(func(s *ks.Session) { s.Expires = now.Add(-time.Second) })), fails: "it is expired"},
			{name: "other partner", token: sign("new-secret", with(func(s *ks.Session) { s.Partner = 103 })), fails: "another partner"},
			{name: "user", token: sign("new-secret", with(func(s *ks.Session) { s.Type = ks.User })), fails: "type 2"},
			{name: "widget", token: sign("new-secret", with(func(s *ks.Session) { s.Type = ks.Widget })), fails: "type 2"},
			{name: "other secret", token: sign("guess", admin), fails: "signature"},
			{name: "iprestrict", token: sign("new-secret", with(func(s *ks.Session) { s.Privileges = ks.ParsePrivileges("iprestrict:192.0.2.1") })), fails: "iprestrict"},
			{name: "urirestrict", token: sign("new-secret", with(func(s *ks.Session) { s.Privileges = ks.ParsePrivileges("*,URIRESTRICT:/x") })), fails: "urirestrict"},
			{name: "actionslimit", token: sign("new-secret", with(func(s *ks.Session) { s.Privileges = ks.ParsePrivileges("actionslimit:4") })), fails: "actionslimit"},
			{name: "setrole", token: sign("new-secret", with(func(s *ks.Session) { s.Privileges = ks.ParsePrivileges("setrole:PLAYBACK") })), fails: "setrole"},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				p, err := v.Verify(t.Context(), c.token)
				if c.fails != "" {
					require.Equal(t, fault.NotAuthenticated, fault.ReasonOf(err))
					require.ErrorContains(t, err, c.fails)
					require.NotContains(t, err.Error(), c.token)
					require.Equal(t, auth.Principal{}, p)
					return
				}
				require.NoError(t, err)
				require.Equal(t, auth.Principal{Name: c.want, Role: auth.Admin, Method: "ks"}, p)
			})
		}
	}
	for _, token := range []string{"", "s3cret", "bG9vaw==", "djJ", "YWJjfDEyMzs0NTY7", "\xff", string(make([]byte, ks.MaxToken+1))} {
		_, err := v.Verify(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrUnknownToken, "%.20q", token)
	}
}
