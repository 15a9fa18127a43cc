package control

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// pipe is the server's end of a watch in memory; messages come out of got.
type pipe[T any] struct {
	grpc.ServerStream
	ctx context.Context
	got chan *T
}

func (p *pipe[T]) Context() context.Context { return p.ctx }

func (p *pipe[T]) Send(m *T) error {
	select {
	case p.got <- m:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// watcher is one running watch in a synctest bubble.
type watcher[T any] struct {
	*pipe[T]
	end   context.CancelFunc
	ended chan error
}

func watch[T any](serve func(grpc.ServerStreamingServer[T]) error, buffer int) *watcher[T] {
	ctx, end := context.WithCancel(context.Background())
	w := &watcher[T]{&pipe[T]{ctx: ctx, got: make(chan *T, buffer)}, end, make(chan error, 1)}
	go func() { w.ended <- serve(w) }()
	return w
}

// all is what has come so far, in words.
func all[T any](w *watcher[T], describe func(*T) string) string {
	synctest.Wait()
	var out []string
	for {
		select {
		case m := <-w.got:
			out = append(out, describe(m))
			synctest.Wait()
		default:
			return strings.Join(out, " ")
		}
	}
}

func describeStream(m *klivev1.WatchStreamsResponse) string {
	switch c := m.GetChange().(type) {
	case *klivev1.WatchStreamsResponse_Stream:
		return c.Stream.GetId() + ":" + strings.TrimPrefix(c.Stream.GetState().String(), "BROADCAST_STATE_")
	case *klivev1.WatchStreamsResponse_Deleted:
		return "-" + id(c.Deleted)
	case *klivev1.WatchStreamsResponse_Synced:
		return "synced"
	case *klivev1.WatchStreamsResponse_Heartbeat:
		return "heartbeat"
	}
	return "?"
}

func id(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// watchable is the stream service of a house with its board running.
func watchable(t *testing.T, h *house) (*streamService, *eventService) {
	t.Helper()
	shared := &watches{heartbeat: 15 * time.Second, most: 10}
	s := &streamService{entries: catalog{h}, live: air{h}, journal: journal{h}, board: newBoard(catalog{h}, air{h}, "run1"), watches: shared}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.board.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s, &eventService{journal: journal{h}, watches: shared}
}

func (s *streamService) watcher(filter, resume string, buffer int) *watcher[klivev1.WatchStreamsResponse] {
	return watch(func(out grpc.ServerStreamingServer[klivev1.WatchStreamsResponse]) error {
		return s.WatchStreams(&klivev1.WatchStreamsRequest{Filter: filter, ResumeToken: resume}, out)
	}, buffer)
}

func TestWatchStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.declare("b")
		h.declare("a")
		h.publish("b", stream.Broadcasting)
		s, _ := watchable(t, h)
		w := s.watcher("", "", 100)
		require.Equal(t, "a:UNSPECIFIED b:BROADCASTING synced", all(w, describeStream))

		h.publish("b", stream.Playable)
		time.Sleep(refreshPause)
		require.Equal(t, "b:PLAYABLE", all(w, describeStream))
		h.declare("c")
		time.Sleep(refreshPause)
		require.Equal(t, "c:UNSPECIFIED", all(w, describeStream))
		h.vanish("b")
		time.Sleep(refreshPause)
		require.Equal(t, "b:UNSPECIFIED", all(w, describeStream))

		_, _, err := catalog{h}.Create(t.Context(), stream.Entry{ID: "d"}, stream.Secrets{})
		require.NoError(t, err)
		time.Sleep(refreshPause)
		require.Equal(t, "d:UNSPECIFIED", all(w, describeStream))
		require.NoError(t, catalog{h}.Delete(t.Context(), "d", 0))
		time.Sleep(refreshPause)
		require.Equal(t, "-d", all(w, describeStream))

		// Nothing happens for a while.
		time.Sleep(31 * time.Second)
		require.Equal(t, "heartbeat heartbeat", all(w, describeStream))
		// A version that changed nothing a caller sees is no change.
		h.publish("a", stream.Playable)
		h.mu.Lock()
		status := h.statuses["a"]
		h.mu.Unlock()
		time.Sleep(refreshPause)
		require.Equal(t, "a:PLAYABLE", all(w, describeStream))
		h.mu.Lock()
		status.Version++
		h.statuses["a"] = status
		ring(&h.liveChanged)
		h.mu.Unlock()
		time.Sleep(time.Second)
		require.Empty(t, all(w, describeStream))

		w.end()
		require.ErrorIs(t, <-w.ended, context.Canceled)
		require.Zero(t, s.watches.open.Load())
	})
}

func TestWatchStreamsWithAFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.declare("a")
		h.declare("b")
		h.publish("b", stream.Playable)
		s, _ := watchable(t, h)
		w := s.watcher("state = PLAYABLE", "", 100)
		require.Equal(t, "b:PLAYABLE synced", all(w, describeStream))
		for _, step := range []struct {
			id    string
			state stream.State
			want  string
		}{
			{"a", stream.Broadcasting, ""},
			{"a", stream.Playable, "a:PLAYABLE"},
			{"a", stream.Stopped, "-a"},
			{"a", stream.Failed, ""},
			{"b", stream.Broadcasting, "-b"},
			{"b", stream.Playable, "b:PLAYABLE"},
		} {
			h.publish(step.id, step.state)
			time.Sleep(refreshPause)
			require.Equal(t, step.want, all(w, describeStream))
		}
		w.end()
		<-w.ended
		bad := s.watcher("state =", "", 1)
		require.Equal(t, fault.InvalidField, fault.ReasonOf(<-bad.ended))
	})
}

func TestWatchStreamsResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		for _, id := range []string{"a", "b", "c"} {
			_, _, err := catalog{h}.Create(t.Context(), stream.Entry{ID: id}, stream.Secrets{})
			require.NoError(t, err)
		}
		s, _ := watchable(t, h)
		var token string
		remember := func(m *klivev1.WatchStreamsResponse) string {
			token = m.GetResumeToken()
			return describeStream(m)
		}
		w := s.watcher("", "", 100)
		require.Equal(t, "a:UNSPECIFIED b:UNSPECIFIED c:UNSPECIFIED synced", all(w, remember))
		w.end()
		<-w.ended

		// Nobody watches: the board rests and misses nothing.
		h.publish("b", stream.Broadcasting)
		time.Sleep(time.Second)
		h.publish("b", stream.Playable)
		require.NoError(t, catalog{h}.Delete(t.Context(), "c", 0))
		w = s.watcher("", token, 100)
		require.Equal(t, "b:PLAYABLE -c", all(w, remember))
		w.end()
		<-w.ended

		w = s.watcher("", token, 100)
		require.Empty(t, all(w, remember))
		h.publish("a", stream.Playable)
		time.Sleep(refreshPause)
		require.Equal(t, "a:PLAYABLE", all(w, remember))
		w.end()
		<-w.ended

		for _, lost := range []string{"run0.1", "run1.zzzz", "run1.", "x", "run1.-1"} {
			w := s.watcher("", lost, 1)
			require.Equal(t, fault.WatchLost, fault.ReasonOf(<-w.ended), lost)
		}
	})
}

func TestSlowWatcherGetsTheNewestOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.declare("a")
		s, _ := watchable(t, h)
		w := s.watcher("", "", 0) // takes one message at a time
		synctest.Wait()
		require.Equal(t, "a:UNSPECIFIED", describeStream(<-w.got))
		require.Equal(t, "synced", describeStream(<-w.got))
		synctest.Wait()
		h.publish("a", stream.Authenticated)
		time.Sleep(refreshPause)
		synctest.Wait() // the watch stands in Send with AUTHENTICATED
		for _, state := range []stream.State{stream.Broadcasting, stream.Playable, stream.Stopped} {
			h.publish("a", state)
			time.Sleep(refreshPause)
		}
		require.Equal(t, "a:AUTHENTICATED a:STOPPED", all(w, describeStream))

		// So many streams come and go meanwhile that some are forgotten.
		h.publish("a", stream.Playable)
		time.Sleep(refreshPause)
		synctest.Wait()
		for round := range 2 {
			for i := range maxGone {
				_, _, err := catalog{h}.Create(t.Context(), stream.Entry{ID: fmt.Sprintf("x%d-%d", round, i)}, stream.Secrets{})
				require.NoError(t, err)
			}
			time.Sleep(refreshPause)
			synctest.Wait() // the board has seen them all before they go
			for i := range maxGone {
				require.NoError(t, catalog{h}.Delete(t.Context(), fmt.Sprintf("x%d-%d", round, i), 0))
			}
			time.Sleep(refreshPause)
			synctest.Wait()
		}
		time.Sleep(refreshPause)
		synctest.Wait()
		require.Equal(t, "a:PLAYABLE", describeStream(<-w.got))
		require.Equal(t, fault.WatchLost, fault.ReasonOf(<-w.ended))
		require.LessOrEqual(t, s.board.order.Len(), maxGone+1)
		require.Len(t, s.board.byID, s.board.order.Len())
	})
}

func TestWatchSurvivesTroubleOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.declare("a")
		s, _ := watchable(t, h)
		w := s.watcher("", "", 100)
		require.Equal(t, "a:UNSPECIFIED synced", all(w, describeStream))
		h.mu.Lock()
		h.broken = fault.New(fault.StoreUnavailable, "the store did not answer")
		ring(&h.entriesChanged)
		h.mu.Unlock()
		time.Sleep(refreshPause)
		require.Empty(t, all(w, describeStream))
		late := s.watcher("", "", 100)
		require.Equal(t, fault.StoreUnavailable, fault.ReasonOf(<-late.ended))
		h.mu.Lock()
		h.broken = nil
		h.entries["b"] = stream.Entry{ID: "b"} // without a signal: the board asks again by itself
		h.mu.Unlock()
		time.Sleep(2 * refreshRetry)
		require.Equal(t, "b:UNSPECIFIED", all(w, describeStream))
		w.end()
		<-w.ended
	})
}

func describeEvent(m *klivev1.WatchEventsResponse) string {
	switch c := m.GetChange().(type) {
	case *klivev1.WatchEventsResponse_Event:
		return fmt.Sprint(c.Event.GetSequence())
	case *klivev1.WatchEventsResponse_Synced:
		return "synced"
	case *klivev1.WatchEventsResponse_Heartbeat:
		return "heartbeat"
	}
	return "?"
}

func (s *eventService) watcher(filter, resume string) *watcher[klivev1.WatchEventsResponse] {
	return watch(func(out grpc.ServerStreamingServer[klivev1.WatchEventsResponse]) error {
		return s.WatchEvents(&klivev1.WatchEventsRequest{Filter: filter, ResumeToken: resume}, out)
	}, 2*snapshotEvents)
}

func TestWatchEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		_, events := watchable(t, h)
		empty := events.watcher("", "")
		require.Equal(t, "synced", all(empty, describeEvent))
		empty.end()
		<-empty.ended

		record := func(types ...stream.EventType) {
			for _, et := range types {
				journal{h}.Record(stream.Event{Type: et, Stream: "a"})
			}
		}
		record(stream.StreamCreated, stream.SessionStarted)
		w := events.watcher("", "")
		ended := events.watcher("type = SESSION_ENDED", "")
		require.Equal(t, "1 2 synced", all(w, describeEvent))
		require.Equal(t, "synced", all(ended, describeEvent))
		record(stream.SessionEnded, stream.StreamDeleted)
		require.Equal(t, "3 4", all(w, describeEvent))
		require.Equal(t, "3", all(ended, describeEvent))
		time.Sleep(16 * time.Second)
		require.Equal(t, "heartbeat", all(w, describeEvent))

		resumed := events.watcher("", "2")
		require.Equal(t, "3 4", all(resumed, describeEvent))
		// Retention drops what the next one wants to resume at.
		h.drop(3)
		lost := events.watcher("", "1")
		require.Equal(t, fault.WatchLost, fault.ReasonOf(<-lost.ended))
		again := events.watcher("", "")
		require.Equal(t, "4 synced", all(again, describeEvent))
		for _, token := range []string{"99", "x", "-1"} {
			lost := events.watcher("", token)
			require.Equal(t, fault.WatchLost, fault.ReasonOf(<-lost.ended))
		}
		for _, w := range []*watcher[klivev1.WatchEventsResponse]{w, ended, resumed, again} {
			w.end()
			require.ErrorIs(t, <-w.ended, context.Canceled)
		}
	})
}

func TestWatchEventsBeginsWithTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		_, events := watchable(t, h)
		for range snapshotEvents + 5 {
			journal{h}.Record(stream.Event{Type: stream.SessionStarted, Stream: "a"})
		}
		w := events.watcher("", "")
		got := strings.Fields(all(w, describeEvent))
		require.Len(t, got, snapshotEvents+1)
		require.Equal(t, "6", got[0])
		require.Equal(t, "synced", got[snapshotEvents])
		h.drop(snapshotEvents + 5) // everything
		late := events.watcher("", "")
		require.Equal(t, "synced", all(late, describeEvent))
		w.end()
		late.end()
		<-w.ended
		<-late.ended
	})
}
