package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLifecycle(t *testing.T) {
	for _, s := range []State{Connecting, Authenticated, Broadcasting, Playable} {
		for _, end := range []Trigger{EndedWell, EndedBroken} {
			next, err := s.Next(end)
			require.NoError(t, err, s)
			require.False(t, next.Live())
		}
	}
	for _, s := range []State{StateUnspecified, Stopped, Failed} {
		for trigger := LetIn; trigger <= EndedBroken; trigger++ {
			_, err := s.Next(trigger)
			require.Error(t, err, "%s is final", s)
		}
	}
	_, err := Authenticated.Next(CanPlay)
	require.ErrorContains(t, err, "AUTHENTICATED")
}

func TestAStreamGoesOnAirAndEnds(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e, err := st.open(1, 0)
		require.NoError(t, err)
		require.Equal(t, Authenticated, st.status().State)
		require.NoError(t, e.pub.Announce([]*media.Track{e.video, e.audio}))
		require.Equal(t, Broadcasting, st.status().State)
		e.wire = time.Hour // the stream's time begins at 0 all the same
		require.NoError(t, e.send(10))
		require.Equal(t, Playable, st.status().State)

		packets := st.shelves.of("1")
		require.Len(t, packets, 20)
		require.Zero(t, packets[0].DTS)
		require.Equal(t, 9*40*time.Millisecond, packets[19].DTS)
		require.Equal(t, media.NewTrackID(1, media.Video, 0), packets[0].Track.ID)
		require.False(t, packets[0].Flags.Has(media.Discontinuity))

		e.pub.Close(nil)
		s := st.status()
		require.Equal(t, Playable, s.State, "it waits for a reconnect")
		require.False(t, s.Broadcasts[0].ReconnectDeadline.IsZero())
		time.Sleep(31 * time.Second)
		s = st.status()
		require.Equal(t, Stopped, s.State)
		require.False(t, s.Broadcasts[0].Renditions[0].Playable, "what is over is not playable")
		require.Equal(t, fault.ReconnectWindowOver, st.journal.last().Reason)
		require.Equal(t, []segment.ShelfID{{Stream: "lobby"}}, st.shelves.ends())
		sessions := st.reg.Sessions("lobby")
		require.Len(t, sessions, 1)
		require.Equal(t, fault.Unpublished, sessions[0].Reason)
		require.Equal(t, uint64(20), sessions[0].Packets)
		require.Equal(t, []EventType{SessionStarted, BroadcastStarted, BroadcastPlayable, SessionEnded, BroadcastWaiting, BroadcastEnded}, st.journal.types())
	})
}

func TestReconnectContinuesTheBroadcast(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(25))
		id := st.status().Broadcasts[0].ID
		e.pub.Close(errors.New("connection reset"))
		time.Sleep(10 * time.Second)

		again := st.publish(1, 0) // its clock starts at 0 again
		require.NoError(t, again.send(2))
		s := st.status()
		require.Equal(t, id, s.Broadcasts[0].ID)
		require.True(t, s.Broadcasts[0].ReconnectDeadline.IsZero())
		require.Equal(t, 1, st.shelves.begins())

		packets := st.shelves.of("1")
		back := packets[50:]
		require.Equal(t, 11*time.Second, back[0].DTS, "by the wall clock: 1 s on air, 10 s away")
		for i, want := range []bool{true, true, false, false} { // once on every track
			require.Equal(t, want, back[i].Flags.Has(media.Discontinuity), "packet %d", i)
			require.False(t, back[i].Flags.Has(media.NewConfig), "the configuration is the same")
			require.Same(t, packets[i%2].Track, back[i].Track)
		}
		require.Equal(t, Failed, st.reg.Sessions("lobby")[1].State)
		require.Equal(t, fault.ConnectionLost, st.reg.Sessions("lobby")[1].Reason)
	})
}

func TestReconnectWithAnotherConfiguration(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(2))
		e.pub.Close(nil)
		again, err := st.open(1, 0)
		require.NoError(t, err)
		again.video = newVideo(2)
		require.NoError(t, again.pub.Announce([]*media.Track{again.video, again.audio}))
		require.NoError(t, again.send(1))
		back := st.shelves.of("1")[4:]
		require.True(t, back[0].Flags.Has(media.NewConfig|media.Discontinuity))
		require.False(t, back[1].Flags.Has(media.NewConfig))
	})
}

func TestDuplicateAndTakeover(t *testing.T) {
	onStation(t, nil, func(st *station) {
		first := st.publish(1, 0)
		require.NoError(t, first.send(5))
		time.Sleep(2900 * time.Millisecond) // frozen, without a goodbye
		_, err := st.open(1, 0)
		require.Equal(t, fault.StreamBusy, fault.ReasonOf(err))
		require.ErrorContains(t, err, "lobby_1 is already being published")

		time.Sleep(200 * time.Millisecond)
		second := st.publish(1, 0)
		<-first.pub.Done()
		require.Equal(t, fault.Superseded, fault.ReasonOf(first.pub.Cause()))
		require.NoError(t, second.send(1))
		require.Equal(t, fault.Superseded, fault.ReasonOf(first.send(1)), "the old one wakes up and is told")
		first.pub.Close(nil)
		s := st.status()
		require.Len(t, s.Broadcasts, 1)
		require.Equal(t, 1, st.shelves.begins())
		require.Equal(t, second.pub.(*session).id, s.Broadcasts[0].Renditions[0].Session)
		old, ok := st.reg.Session(first.pub.(*session).id)
		require.True(t, ok)
		require.Equal(t, Failed, old.State)
		require.Equal(t, fault.Superseded, old.Reason)
	})
}

func TestWhoSendsNothingIsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(st *station) *encoder
		want    fault.Reason
	}{
		"never announced": {func(st *station) *encoder {
			e, err := st.open(1, 0)
			require.NoError(st.t, err)
			return e
		}, fault.NoMedia},
		"stopped sending": {func(st *station) *encoder {
			e := st.publish(1, 0)
			require.NoError(st.t, e.send(5))
			return e
		}, fault.Idle},
		"audio only": {func(st *station) *encoder {
			e, err := st.open(1, 0)
			require.NoError(st.t, err)
			require.NoError(st.t, e.pub.Announce([]*media.Track{e.audio}))
			e.video = nil
			require.NoError(st.t, e.send(5))
			return e
		}, fault.Idle},
	} {
		t.Run(name, func(t *testing.T) {
			onStation(t, nil, func(st *station) {
				e := c.prepare(st)
				time.Sleep(59 * time.Second)
				require.NoError(t, e.pub.Cause())
				time.Sleep(2 * time.Second)
				<-e.pub.Done()
				require.Equal(t, c.want, fault.ReasonOf(e.pub.Cause()))
				e.pub.Close(nil)
				require.Equal(t, Failed, st.reg.Sessions("")[0].State)
			})
		})
	}
}

func TestPrimaryAndBackupAreTwoBroadcastsOfOneStream(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.publish(1, 0)
		backup := st.publish(1, 1)
		s := st.status()
		require.Len(t, s.Broadcasts, 2)
		require.NotEqual(t, s.Broadcasts[0].ID, s.Broadcasts[1].ID)
		require.Equal(t, 1, s.Broadcasts[1].ServerIndex)
		backup.pub.Close(nil)
		time.Sleep(31 * time.Second)
		require.Equal(t, Stopped, st.status().Broadcasts[1].State)
		require.Equal(t, Broadcasting, st.status().State, "the primary is still there")
	})
}

func TestParallelSessionsJoin(t *testing.T) {
	for name, c := range map[string]struct {
		wireAhead time.Duration // the second's clock against the first's
		late      time.Duration // how much later its media arrive than its clock says
		method    string
		at        time.Duration
		finding   bool
	}{
		"common clock":         {0, 0, "wire-clock", time.Second, false},
		"common clock, late":   {-300 * time.Millisecond, 300 * time.Millisecond, "wire-clock", 700 * time.Millisecond, true},
		"clocks of their own":  {-50 * time.Minute, 0, "wall-clock", time.Second, false},
		"more than a second":   {-1200 * time.Millisecond, 0, "wall-clock", time.Second, false},
		"ahead of the present": {500 * time.Millisecond, 0, "wire-clock", 1500 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			onStation(t, nil, func(st *station) {
				first := st.publish(1, 0)
				first.wire = 2 * time.Hour
				require.NoError(t, first.send(25))
				second := st.publish(2, 0)
				second.wire = first.wire + c.wireAhead
				require.NoError(t, second.send(1))
				require.Equal(t, c.at, st.shelves.of("2")[0].DTS)
				require.False(t, st.shelves.of("2")[0].Flags.Has(media.Discontinuity))
				s, _ := st.reg.Session(second.pub.(*session).id)
				require.Equal(t, c.method, s.OffsetMethod)
				if c.finding {
					require.Contains(t, st.journal.types(), OffsetFound)
				} else {
					require.NotContains(t, st.journal.types(), OffsetFound)
				}
				b := st.status().Broadcasts
				require.Len(t, b, 1)
				require.Equal(t, "1", b[0].Renditions[0].ID)
				require.Equal(t, "2", b[0].Renditions[1].ID)
			})
		})
	}
}

func TestStopRefusesTheReturnForTheWindow(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(3))
		require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(fault.StoppedByOperator, "stopped")))
		require.Equal(t, fault.StoppedByOperator, fault.ReasonOf(e.send(1)))
		e.pub.Close(nil)
		require.Equal(t, Stopped, st.status().State)
		require.Len(t, st.shelves.ends(), 1)
		_, err := st.open(1, 0)
		require.Equal(t, fault.StreamStopped, fault.ReasonOf(err))
		time.Sleep(30*time.Second + tick)
		again := st.publish(1, 0)
		require.NoError(t, again.send(1))
		require.Equal(t, 2, st.shelves.begins(), "a new broadcast")
	})
}

// A question would begin a broadcast at a backend, so none is asked, and nobody
// learns by it whether his token is right.
func TestTheAuthorityIsNotAskedAboutAStoppedStream(t *testing.T) {
	for cause, want := range map[fault.Reason]fault.Reason{fault.StoppedByOperator: fault.StreamStopped, fault.PartnerBlocked: fault.PartnerBlocked} {
		asked := 0
		onStation(t, func(o *Options) {
			o.Authority = granting(func(r ingest.Request) Grant {
				asked++
				return Grant{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex}
			})
		}, func(st *station) {
			require.NoError(t, st.publish(1, 0).send(3))
			require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(cause, "no more")))
			for _, token := range []string{"good", "wrong"} {
				req := request(1, 0)
				req.Token = token
				_, err := st.reg.Open(t.Context(), req)
				require.Equal(t, want, fault.ReasonOf(err))
			}
			require.Equal(t, 1, asked)
			time.Sleep(30*time.Second + tick)
			st.publish(1, 0)
			require.Equal(t, 2, asked)
		})
	}
}

func TestDeletedStreamMayBeMadeAgainAtOnce(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(3))
		require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(fault.StreamDeleted, "deleted")))
		require.Equal(t, fault.StreamDeleted, fault.ReasonOf(e.send(1)))
		e.pub.Close(nil)
		again := st.publish(1, 0)
		require.NoError(t, again.send(1))
		require.Equal(t, 2, st.shelves.begins(), "a new broadcast")
	})
}

func TestDisconnectedPublisherMayComeBack(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		id := e.pub.(*session).id
		require.NoError(t, st.reg.Disconnect(t.Context(), id, fault.New(fault.StoppedByOperator, "go")))
		<-e.pub.Done()
		e.pub.Close(nil)
		require.Equal(t, fault.SessionNotFound, fault.ReasonOf(st.reg.Disconnect(t.Context(), id, nil)))
		st.publish(1, 0)
		require.Equal(t, 1, st.shelves.begins())
	})
}

func TestLimitsAndDrain(t *testing.T) {
	onStation(t, func(o *Options) { o.Limits.MaxStreams = 1 }, func(st *station) {
		st.publish(1, 0)
		st.publish(2, 0) // the same stream
		req := request(1, 0)
		req.Stream = "studio"
		_, err := st.reg.Open(t.Context(), req)
		require.Equal(t, fault.TooManyStreams, fault.ReasonOf(err))
		st.reg.Drain(fault.New(fault.ServerDraining, "later"))
		_, err = st.open(3, 0)
		require.Equal(t, fault.ServerDraining, fault.ReasonOf(err))
		require.Equal(t, uint64(1), st.reg.Counters().Refused()[fault.TooManyStreams])
	})
}

func TestTracksThatCannotBeCarried(t *testing.T) {
	onStation(t, nil, func(st *station) {
		for want, tracks := range map[fault.Reason][]*media.Track{
			fault.UnsupportedCodec:  {{Kind: media.Video, Codec: media.VP8}},
			fault.UnsupportedLayout: {newVideo(1), newVideo(2)},
			fault.NoMedia:           {{Kind: media.Data, Codec: media.AMF0}},
		} {
			e, err := st.open(1, 0)
			require.NoError(t, err)
			err = e.pub.Announce(tracks)
			require.Equal(t, want, fault.ReasonOf(err))
			e.pub.Close(err)
		}
	})
}

func TestADiskThatRefusesIsToldToThePublisher(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.shelves.refuse = errors.New("no space left")
		e, err := st.open(1, 0)
		require.NoError(t, err)
		err = e.pub.Announce([]*media.Track{e.video})
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(err))
		e.pub.Close(err)
		st.shelves.refuse = nil
		st.publish(1, 0)
	})
}

func TestDataPacketsAreKept(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e, err := st.open(1, 0)
		require.NoError(t, err)
		data := &media.Track{Kind: media.Data, Codec: media.AMF0, TimeScale: 1000}
		require.NoError(t, e.pub.Announce([]*media.Track{e.video, e.audio, data}))
		require.NoError(t, e.pub.Write(media.Packet{Track: data, Flags: media.Key, Payload: []byte("onMetaData")})) // at 0, before anything else
		e.wire = time.Hour
		require.NoError(t, e.send(2))
		require.NoError(t, e.pub.Write(media.Packet{Track: data, Flags: media.Key, Payload: []byte("onCuePoint")})) // at 0 again
		require.NoError(t, e.send(1))
		var got []string
		for _, p := range st.shelves.of("1") {
			if p.Track.Kind == media.Data {
				got = append(got, string(p.Payload)+" "+p.DTS.Round(time.Millisecond).String())
			}
		}
		require.Equal(t, []string{"onMetaData 0s", "onCuePoint 40ms"}, got)
		s, _ := st.reg.Session(e.pub.(*session).id)
		require.Zero(t, s.Discontinuities)
	})
}

func TestAJumpOfTheEncodersClockIsRepairedAndTold(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(25))
		e.wire += time.Hour
		require.NoError(t, e.send(25))
		packets := st.shelves.of("1")
		require.InDelta(t, (2*time.Second - 40*time.Millisecond).Seconds(), packets[len(packets)-1].DTS.Seconds(), 0.1)
		require.Contains(t, st.journal.types(), TimelineRepaired)
	})
}

func TestARestartContinuesWhatWasOnAir(t *testing.T) {
	start := time.Time{}
	onStation(t, func(o *Options) {
		start = time.Now().Add(-time.Minute)
		o.Store.(*shelves).interrupted = []segment.Interrupted{{
			ID: segment.ShelfID{Stream: "lobby"}, Broadcast: segment.Broadcast{ID: "before", Start: start}, End: 55 * time.Second,
		}}
	}, func(st *station) {
		<-st.reg.Restored()
		require.Equal(t, "before", st.status().Broadcasts[0].ID)
		time.Sleep(2 * time.Second)
		e := st.publish(1, 0)
		require.NoError(t, e.send(1))
		require.Equal(t, "before", st.status().Broadcasts[0].ID)
		p := st.shelves.of("1")[0]
		require.Equal(t, 62*time.Second, p.DTS)
		require.True(t, p.Flags.Has(media.Discontinuity))
	})
}

func TestAShutdownLeavesBroadcastsToTheNextRun(t *testing.T) {
	var st *station
	var e *encoder
	onStation(t, nil, func(s *station) {
		st, e = s, s.publish(1, 0)
		require.NoError(t, e.send(3))
	})
	require.Equal(t, fault.ServerDraining, fault.ReasonOf(e.pub.Cause()))
	require.Len(t, st.shelves.of("1"), 6)
	require.Empty(t, st.shelves.ends())
}

func TestAChangeIsSeen(t *testing.T) {
	onStation(t, nil, func(st *station) {
		_, changed := st.reg.Statuses()
		e := st.publish(1, 0)
		<-changed
		list, changed := st.reg.Statuses()
		require.Len(t, list, 1)
		require.NoError(t, e.send(1))
		synctest.Wait()
		<-changed // playable
		after, _ := st.reg.Statuses()
		require.Greater(t, after[0].Version, list[0].Version)
	})
}

func TestWriteDoesNotAllocate(t *testing.T) {
	onStation(t, func(o *Options) { o.Limits.Log.Time = time.Second }, func(st *station) {
		e := st.publish(1, 0)
		payload := make([]byte, 100)
		write := func() {
			e.wire += 10 * time.Millisecond
			if err := e.pub.Write(media.Packet{Track: e.video, DTS: e.wire, PTS: e.wire, Captured: time.Now(), Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
		for range 1000 {
			write()
		}
		// The packet slab is one allocation for many packets; the fake reader
		// appends to a slice. Both round down to 0 a packet.
		require.Zero(t, testing.AllocsPerRun(2000, write))
	})
}
