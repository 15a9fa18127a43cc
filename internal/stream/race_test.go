package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

func TestABroadcastBegunByASupersededPublisherEnds(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.shelves.begin = make(chan struct{})
		first, err := st.open(1, 0)
		require.NoError(t, err)
		announced := make(chan error, 1)
		go func() { announced <- first.pub.Announce([]*media.Track{first.video}) }()
		time.Sleep(4 * time.Second) // the shelf is slow, the publisher silent
		second, err := st.open(1, 0)
		require.NoError(t, err)
		close(st.shelves.begin)
		require.Equal(t, fault.Superseded, fault.ReasonOf(<-announced))
		first.pub.Close(nil)
		second.pub.Close(errors.New("gone")) // without a word
		require.False(t, st.status().Broadcasts[0].ReconnectDeadline.IsZero())
		time.Sleep(31 * time.Second)
		require.Equal(t, Stopped, st.status().State)
	})
}

func TestStopDuringABeginThatFails(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.shelves.begin, st.shelves.refuse = make(chan struct{}), errors.New("no space left")
		e, err := st.open(1, 0)
		require.NoError(t, err)
		announced := make(chan error, 1)
		go func() { announced <- e.pub.Announce([]*media.Track{e.video}) }()
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- st.reg.Stop(t.Context(), "lobby", fault.New(fault.StoppedByOperator, "stop")) }()
		synctest.Wait()
		close(st.shelves.begin)
		require.Error(t, <-announced)
		require.NoError(t, <-stopped)
		e.pub.Close(nil)
	})
}

func TestAShutdownWaitsUntilWhatIsCutIsClosed(t *testing.T) {
	var st *station
	onStation(t, nil, func(s *station) {
		st = s
		st.shelves.closing = time.Second
		require.NoError(t, st.publish(1, 0).send(3))
		require.NoError(t, st.publish(2, 0).send(3))
	})
	require.Equal(t, 2, st.shelves.closed)
}

func TestAnEndedBroadcastHoldsNoMedia(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		require.NoError(t, e.send(25))
		require.Positive(t, st.status().Broadcasts[0].Renditions[0].LogBytes)
		require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(fault.StoppedByOperator, "stop")))
		require.Zero(t, st.status().Broadcasts[0].Renditions[0].LogBytes)
		require.Zero(t, st.reg.past[e.pub.(*session).shelf].renditions[0].log.Load().Stats().Entries)
	})
}

func TestAPublisherThatComesBackBeforeItsFirstFrameKeepsTheTime(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.publish(1, 0).pub.Close(errors.New("lost"))
		time.Sleep(25 * time.Second)
		require.NoError(t, st.publish(1, 0).send(1))
		require.Equal(t, 25*time.Second, st.shelves.of("1")[0].DTS)
	})
}

func TestAClockThatJumpsAllTheTimeIsDismissed(t *testing.T) {
	onStation(t, nil, func(st *station) {
		e := st.publish(1, 0)
		var err error
		for n := 0; err == nil; n++ {
			require.Less(t, n, 3*maxJumps)
			err = e.send(1)
			e.wire += time.Hour
		}
		require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
		told := 0
		for _, typ := range st.journal.types() {
			if typ == TimelineRepaired {
				told++
			}
		}
		require.Equal(t, toldJumps, told)
	})
}

func TestStopSaysNothingOfWaiting(t *testing.T) {
	onStation(t, nil, func(st *station) {
		require.NoError(t, st.publish(1, 0).send(1))
		require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(fault.StoppedByOperator, "stop")))
		require.NotContains(t, st.journal.types(), BroadcastWaiting)
	})
}
