package delivery

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

func TestEveryCode(t *testing.T) {
	for code, wanted := range map[string]stream.DeliveryState{
		"INTERNAL_SERVERL_ERROR":                       stream.DeliveryQueued,
		"INTERNAL_DATABASE_ERROR":                      stream.DeliveryQueued,
		"INTERNAL_ANYTHING":                            stream.DeliveryQueued,
		"LOCK_TIMED_OUT":                               stream.DeliveryQueued,
		"ACTION_BLOCKED":                               stream.DeliveryQueued,
		"MISSING_KS":                                   stream.DeliveryQueued,
		"INVALID_KS":                                   stream.DeliveryQueued,
		"SERVICE_FORBIDDEN":                            stream.DeliveryQueued,
		"SERVICE_FORBIDDEN_CONTENT_BLOCKED":            stream.DeliveryQueued,
		"SERVICE_ACCESS_CONTROL_RESTRICTED":            stream.DeliveryQueued,
		"ACCESS_UNAUTHORIZED":                          stream.DeliveryQueued,
		"SERVICE_DOES_NOT_EXISTS":                      stream.DeliveryQueued,
		"ACTION_DOES_NOT_EXISTS":                       stream.DeliveryQueued,
		"LOCAL_FILE_NOT_FOUND":                         stream.DeliveryQueued,
		"UPLOAD_TOKEN_NOT_FOUND":                       stream.DeliveryQueued,
		"UPLOADED_FILE_NOT_FOUND_BY_TOKEN":             stream.DeliveryQueued,
		"UPLOAD_ANYTHING":                              stream.DeliveryQueued,
		"A_CODE_NOBODY_KNOWS":                          stream.DeliveryQueued,
		"ENTRY_ID_NOT_FOUND":                           stream.DeliveryRefused,
		"ASSET_ID_NOT_FOUND":                           stream.DeliveryRefused,
		"LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION":   stream.DeliveryRefused,
		"FILE_CONTENT_NOT_SECURE":                      stream.DeliveryRefused,
		"UPLOAD_TOKEN_FILE_TYPE_RESTRICTED_FOR_UPLOAD": stream.DeliveryRefused,
		"MISSING_MANDATORY_PARAMETER":                  stream.DeliveryRefused,
		"PROPERTY_VALIDATION_CANNOT_BE_NULL":           stream.DeliveryRefused,
		"INVALID_ENUM_VALUE":                           stream.DeliveryRefused,
		"OBJECT_TYPE_ABSTRACT":                         stream.DeliveryRefused,
	} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entry, 0)
				h.recs.piece(r, "33", 1, false)
				time.Sleep(time.Second)
				id := h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: code, Action: "appendRecording"})
				h.recs.piece(r, "33", 2, false)
				h.recs.piece(r, "33", 3, true)
				h.recs.end(r)
				later := h.recs.begin("rec2", entry, 0)
				h.recs.piece(later, "33", 1, true)
				h.recs.end(later)
				time.Sleep(5 * time.Minute)
				d := stateOf(q, "rec1", "33", 2)
				require.Equal(t, wanted, d.State, "%v", d)
				require.Equal(t, code, d.Code)
				require.Equal(t, stream.DeliveryQueued, stateOf(q, "rec1", "33", 3).State, "those behind it wait")
				require.True(t, q.Holds("rec1", "33", 2))
				ok, changed := q.Settled(entry, 0)
				require.Equal(t, wanted == stream.DeliveryRefused, ok, "what waits for a person waits for nothing else")
				if wanted == stream.DeliveryRefused {
					require.Equal(t, 2, h.journal.count(stream.DeliveryFailed), "this and the later one")
				}
				h.backend.ClearFaults(id)
				if wanted == stream.DeliveryRefused {
					time.Sleep(time.Hour)
					require.Len(t, h.backend.State().Segments, 1)
					n, err := q.Retry(t.Context(), "rec1", "", 0)
					require.NoError(t, err)
					require.Equal(t, 2, n)
					_, err = q.Retry(t.Context(), "rec2", "33", 1)
					require.NoError(t, err)
				}
				time.Sleep(5 * time.Minute)
				require.Equal(t, append(want("rec1", "33", 1, 3), want("rec2", "33", 1, 1)...), h.got()[lane1(entry, "33", 0)])
				<-changed
			})
		})
	}
}

func TestACodeNobodyKnowsIsRefusedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "BLUE_MOON", Action: "appendRecording"})
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "33", 1, false)
		h.recs.piece(r, "77", 1, false)
		time.Sleep(10 * time.Minute)
		require.Equal(t, stream.DeliveryQueued, stateOf(q, "rec1", "33", 1).State)
		require.Equal(t, codeAssetUnknown, stateOf(q, "rec1", "77", 1).Code)
		time.Sleep(30 * time.Minute)
		require.Equal(t, []string{"33/1 REFUSED", "77/1 REFUSED"}, states(q, "rec1"))
	})
}

func TestAFailureThatWasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, false)
		time.Sleep(time.Second)
		// The backend fails behind the append: done by hand here.
		h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR", Action: "appendRecording", Times: 1})
		h.recs.piece(r, "32", 2, false)
		synctest.Wait()
		require.Equal(t, "INTERNAL_SERVERL_ERROR", stateOf(q, "rec1", "32", 2).Code)
		_, err := h.client.Append(t.Context(), partner, client.Segment{Entry: entry, Asset: stateOf(q, "rec1", "32", 2).Asset, Duration: pieceDuration, Path: r.Pieces[1].File, Keep: true})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 DELIVERED"}, states(q, "rec1"))
		require.Equal(t, want("rec1", "32", 1, 2), h.got()[lane1(entry, "32", 0)])
	})
}

func TestWhatTheLengthOfAnEntryTells(t *testing.T) {
	minute := time.Minute
	for _, c := range []struct {
		name     string
		in       intent
		now      int64
		recorded client.Text
		duration time.Duration
		want     verdict
	}{
		{"grown", intent{Certain: true, Before: 60_000, Recorded: "r"}, 120_000, "r", minute, grown},
		{"grown, rounded", intent{Certain: true, Before: 60_000, Recorded: "r"}, 119_999, "r", minute, grown},
		{"unchanged", intent{Certain: true, Before: 60_000, Recorded: "r"}, 60_000, "r", minute, same},
		{"grown by something else", intent{Certain: true, Before: 60_000, Recorded: "r"}, 119_000, "r", minute, unclear},
		{"grown twice", intent{Certain: true, Before: 60_000, Recorded: "r"}, 180_000, "r", minute, unclear},
		{"shrunk", intent{Certain: true, Before: 60_000, Recorded: "r"}, 0, "r", minute, unclear},
		{"another recorded entry", intent{Certain: true, Before: 0, Recorded: "r"}, 0, "s", minute, unclear},
		{"never certain", intent{Before: 60_000, Recorded: "r"}, 120_000, "r", minute, unclear},
		{"a tiny piece", intent{Certain: true, Before: 60_000, Recorded: "r"}, 60_000, "r", 10 * time.Millisecond, same},
		{"a tiny piece that arrived", intent{Certain: true, Before: 60_000, Recorded: "r"}, 60_010, "r", 10 * time.Millisecond, grown},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := client.Entry{RecordedLength: client.Int(c.now), RecordedEntry: c.recorded}
			require.Equal(t, c.want, c.in.judge(e, c.duration))
		})
	}
}

func TestAnEntryWhoseLengthProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(o *kalturatest.Options) { o.Entries[0].Record = kalturatest.RecordOff })
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		h.recs.piece(r, "32", 1, false)
		h.recs.piece(r, "32", 2, false)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"32/1 IN_DOUBT", "32/2 DELIVERED"}, states(q, "rec1"), "nothing is recorded there, so nothing grows")
		require.Equal(t, want("rec1", "32", 1, 2), h.got()[lane1(entry, "32", 0)])

		// Somebody else changes the length at the same time.
		h.register(entryB)
		b := h.recs.begin("rec2", entryB, 0)
		h.recs.piece(b, "32", 1, false)
		time.Sleep(5 * time.Minute)
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		h.recs.piece(b, "32", 2, false)
		synctest.Wait()
		_, err := h.client.Append(t.Context(), partner, client.Segment{Entry: entryB, Asset: stateOf(q, "rec2", "32", 1).Asset, Duration: time.Second, Path: b.Pieces[0].File, Keep: true})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"32/1 DELIVERED", "32/2 IN_DOUBT"}, states(q, "rec2"))

		// The backend does not know the entry any more.
		h.inject(kalturatest.Fault{Kind: kalturatest.Lost, Action: "appendRecording", Times: 1})
		h.recs.piece(b, "32", 3, false)
		synctest.Wait()
		id := h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "LOCK_TIMED_OUT", Action: "get"})
		time.Sleep(time.Minute)
		require.Equal(t, stream.DeliveryDelivered, stateOf(q, "rec2", "32", 1).State)
		h.backend.ClearFaults(id)
		h.inject(kalturatest.Fault{Kind: kalturatest.Code, Code: "ENTRY_ID_NOT_FOUND", Action: "get"})
		time.Sleep(2 * time.Minute)
		require.NotEqual(t, stream.DeliveryQueued, stateOf(q, "rec2", "32", 3).State)
	})
}

func TestTheFirstPieceBehindAnEarlierRecording(t *testing.T) {
	for name, kind := range map[string]kalturatest.FaultKind{"carried out": kalturatest.Lost, "not carried out": kalturatest.Down} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				r := h.recs.begin("rec1", entryB, 0)
				h.recs.piece(r, "32", 1, true)
				h.recs.end(r)
				time.Sleep(time.Hour)
				r = h.recs.begin("rec2", entryB, 0)
				h.inject(kalturatest.Fault{Kind: kind, Action: "appendRecording", Times: 1})
				h.recs.piece(r, "32", 1, false)
				time.Sleep(time.Minute)
				if kind == kalturatest.Lost {
					require.Equal(t, []string{"32/1 DELIVERED"}, states(q, "rec2"), "the length has grown")
					return
				}
				require.Equal(t, []string{"32/1 SENDING"}, states(q, "rec2"))
				time.Sleep(10 * time.Minute)
				require.Equal(t, []string{"32/1 IN_DOUBT"}, states(q, "rec2"), "perhaps a new recording would have the same length")
			})
		})
	}
}

func TestNothingPassesACallWhoseOutcomeIsNotKnown(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{"no answer": {Kind: kalturatest.Down}, "a failure": {Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				q, stop := h.start(nil)
				defer stop()
				earlier := h.recs.begin("rec1", entry, 0)
				time.Sleep(time.Minute)
				r := h.recs.begin("rec2", entry, 0)
				f.Action, f.Times = "appendRecording", 1
				h.inject(f)
				h.recs.piece(r, "32", 1, false)
				synctest.Wait()
				h.recs.piece(earlier, "32", 1, true) // makes the entry longer by as much
				time.Sleep(settled + time.Minute)
				require.ElementsMatch(t, append(want("rec2", "32", 1, 1), want("rec1", "32", 1, 1)...), h.got()[lane1(entry, "32", 0)])
				require.Empty(t, q.Open())
			})
		})
	}
}

func TestABackendThatLosesOneAnswerAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		id := h.inject(kalturatest.Fault{Kind: kalturatest.Status, Status: 502, Action: "appendRecording"})
		r := h.recs.begin("rec1", entry, 0)
		for n := 1; n <= 50; n++ {
			h.recs.piece(r, "33", n, n == 50)
		}
		time.Sleep(time.Hour)
		require.Less(t, q.Stats().InDoubt, 10, "not all at once")
		require.Greater(t, q.Stats().InDoubt, 4)
		h.backend.ClearFaults(id)
		q.Resync()
		time.Sleep(time.Minute)
		require.Zero(t, q.Stats().Queued)
		require.Len(t, h.got()[lane1(entry, "33", 0)], 50-q.Stats().InDoubt)
	})
}

func TestSomeCallsAreNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(uploads)
		defer stop()
		h.inject(kalturatest.Fault{Kind: kalturatest.Status, Status: 413, Action: "upload"})
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, true)
		h.recs.piece(r, "33", 1, true)
		time.Sleep(time.Hour)
		require.Less(t, stateOf(q, "rec1", "32", 1).Attempts, 200, "those that are answered do not hurry the others")
	})
}

func TestWhatIsKnownLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		h.line.set(true)
		r := h.recs.begin("rec1", entry, 0)
		h.recs.change(func() { r.Partner = 0 })
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Minute)
		h.recs.change(func() { r.Pieces[0].Last, r.End = true, time.Now() })
		h.line.set(false)
		time.Sleep(2 * time.Minute)
		require.True(t, h.backend.State().Segments[0].Last)
		d := stateOf(q, "rec1", "33", 1)
		require.True(t, d.Last)
		require.Equal(t, partner, d.Partner)
	})
}

func TestTheCapOfARecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		for n := 1; n <= 102; n++ { // 25.5 h
			h.recs.piece(r, "32", n, n == 102)
		}
		h.recs.piece(r, "33", 1, true) // lags behind
		time.Sleep(5 * time.Minute)
		require.Equal(t, want("rec1", "32", 1, 100), h.got()[lane1(entry, "32", 0)])
		d := stateOf(q, "rec1", "32", 101)
		require.Equal(t, stream.DeliveryRefused, d.State)
		require.Equal(t, codeCap, d.Code)
		require.Equal(t, 101, h.backend.State().Count("liveStream.appendRecording"), "the backend was not asked: it would take nothing more then")
		require.Equal(t, stream.DeliveryQueued, stateOf(q, "rec1", "32", 102).State)
		n, err := q.Retry(t.Context(), "rec1", "32", 101)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		time.Sleep(time.Minute)
		require.Equal(t, 102, h.backend.State().Count("liveStream.appendRecording"), "somebody wants it tried")
		require.Equal(t, stream.DeliveryRefused, stateOf(q, "rec1", "32", 101).State)
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		_, err := q.Retry(t.Context(), "nothing", "", 0)
		require.Equal(t, fault.RecordingNotFound, fault.ReasonOf(err))
		r := h.recs.begin("rec1", entry, 0)
		_, err = q.Retry(t.Context(), "rec1", "", 0)
		require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Second)
		_, err = q.Retry(t.Context(), "rec1", "33", 1)
		require.Equal(t, fault.NothingToDeliver, fault.ReasonOf(err))
		h.line.set(true)
		h.recs.piece(r, "33", 2, false)
		time.Sleep(10 * time.Minute)
		h.line.set(false)
		for time.Until(stateOf(q, "rec1", "33", 2).Next) < 20*time.Second {
			h.line.set(true)
			time.Sleep(time.Second)
			h.line.set(false)
		}
		tries := stateOf(q, "rec1", "33", 2).Attempts
		n, err := q.Retry(t.Context(), "rec1", "33", 0)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		synctest.Wait()
		require.Equal(t, tries+1, stateOf(q, "rec1", "33", 2).Attempts, "at once")
		for stateOf(q, "rec1", "33", 2).State != stream.DeliveryDelivered {
			q.Resync()
			time.Sleep(time.Second)
		}
		require.Equal(t, want("rec1", "33", 1, 2), h.got()[lane1(entry, "33", 0)])
	})
}

func TestEntriesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		a, b, backup := h.recs.begin("rec1", entry, 0), h.recs.begin("rec2", entryB, 0), h.recs.begin("rec3", entry, 1)
		require.NoError(t, os.Chmod(h.recs.dir, 0o700))
		h.recs.piece(a, "32", 1, false)
		require.NoError(t, os.Remove(a.Pieces[0].File)) // whatever keeps it
		for n := 1; n <= 5; n++ {
			h.recs.piece(b, "32", n, n == 5)
			h.recs.piece(backup, "32", n, n == 5)
		}
		off := h.recs.begin("rec4", entry, 0)
		h.recs.change(func() { off.Mode = egress.RecordOff })
		h.recs.piece(off, "32", 1, true)
		other := h.recs.begin("rec5", "lobby", 0)
		h.recs.piece(other, "1", 1, true)
		time.Sleep(time.Minute)
		require.Equal(t, want("rec2", "32", 1, 5), h.got()[lane1(entryB, "32", 0)])
		require.Equal(t, want("rec3", "32", 1, 5), h.got()[lane1(entry, "32", 1)])
		require.Equal(t, codeFileMissing, stateOf(q, "rec1", "32", 1).Code)
		require.Empty(t, q.Of("rec4"))
		require.False(t, q.Holds("rec4", "32", 1), "not for the backend")
		require.False(t, q.Holds("rec5", "1", 1), "not an entry of the backend")
		require.True(t, q.Holds("rec1", "32", 1))
	})
}

func TestAtMostEightLanesAtOnceAndAllGetTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		for i := range 20 {
			id := fmt.Sprintf("0_lane%04d", i)
			require.NoError(t, h.backend.AddEntry(kalturatest.Entry{ID: id, Partner: partner, Profile: kalturatest.ProfilePassthrough, Record: kalturatest.RecordAppended}))
			h.register(id)
			r := h.recs.begin("rec"+id, id, 0)
			for n := 1; n <= 3; n++ {
				h.recs.piece(r, "32", n, n == 3)
			}
		}
		id := h.inject(kalturatest.Fault{Kind: kalturatest.Slow, Action: "appendRecording", Delay: 10 * time.Second})
		q, stop := h.start(nil)
		defer stop()
		time.Sleep(5 * time.Second)
		require.Equal(t, 8, q.Stats().Sending)
		require.Equal(t, 52, q.Stats().Queued)
		time.Sleep(25 * time.Second)
		for key, pieces := range h.got() {
			require.LessOrEqual(t, len(pieces), 2, key)
		}
		time.Sleep(5 * time.Second)
		require.Len(t, h.got(), 20, "everybody had a turn before anybody had many")
		h.backend.ClearFaults(id)
		time.Sleep(time.Minute)
		require.Empty(t, q.Open())
	})
}

func TestAnAssetThatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		q, stop := h.start(nil)
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "33", 1, false)
		time.Sleep(time.Second)
		q.mu.Lock()
		p := q.profiles[entry]
		for i := range p.Flavors {
			p.Flavors[i].Asset += "x" // as an old one would be
		}
		q.mu.Unlock()
		h.recs.piece(r, "33", 2, false)
		time.Sleep(time.Minute)
		require.Equal(t, want("rec1", "33", 1, 2), h.got()[lane1(entry, "33", 0)])
	})
}
