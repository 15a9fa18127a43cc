package lifecycle

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// everyState and everyTrigger are all there are.
func everyState() (list []State) {
	for s := Idle; s <= Gone; s++ {
		list = append(list, s)
	}
	return list
}

func everyTrigger() (list []Trigger) {
	for t := SeenNothing; t <= GaveUp; t++ {
		list = append(list, t)
	}
	return list
}

func TestEveryStep(t *testing.T) {
	// What is seen decides, wherever the machine stands; the exceptions are
	// written out.
	seen := map[Trigger]State{
		SeenNothing: Ending, SeenPublisher: Ending, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
	}
	exceptions := map[State]map[Trigger]State{
		Idle:      {SeenNothing: Gone, SeenPublisher: Granted},
		Granted:   {SeenNothing: Gone, SeenPublisher: Granted},
		TakenOver: {SeenNothing: Gone, SeenPublisher: Granted, SeenWaiting: TakenOver},
	}
	learnt := map[State]map[Trigger]State{
		Waiting: {FoundOther: TakenOver},
		Ending:  {FoundOther: Gone, ToldEnd: Gone, GaveUp: Gone},
	}
	for _, s := range everyState() {
		for _, trigger := range everyTrigger() {
			want, ok := seen[trigger]
			if x, is := exceptions[s][trigger]; is {
				want = x
			}
			if x, is := learnt[s][trigger]; is {
				want, ok = x, true
			}
			ok = ok && s != Gone
			got, err := s.Next(trigger)
			if !ok {
				require.Error(t, err, "%s by %s", s, trigger)
				require.Equal(t, s, got)
				continue
			}
			require.NoError(t, err, "%s by %s", s, trigger)
			require.Equal(t, want, got, "%s by %s", s, trigger)
		}
	}
}

func TestTheEndIsToldByEndingAlone(t *testing.T) {
	for _, s := range everyState() {
		if next, err := s.Next(ToldEnd); err == nil {
			require.Equal(t, Ending, s)
			require.Equal(t, Gone, next)
		}
		// A broadcast that the backend was told of cannot be forgotten.
		if next, err := s.Next(SeenNothing); err == nil && s.Tells() {
			require.Equal(t, Ending, next, s)
		}
		for _, trigger := range []Trigger{SeenBroadcasting, SeenPlayable} {
			if next, err := s.Next(trigger); s != Gone {
				require.NoError(t, err)
				require.True(t, next.Tells(), "%s by %s", s, trigger)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range everyState() {
		require.NotContains(t, s.String(), "state")
	}
	for _, trigger := range everyTrigger() {
		require.NotContains(t, trigger.String(), "trigger")
	}
	require.Equal(t, "state 99", State(99).String())
	require.Equal(t, "trigger 99", Trigger(99).String())
}

// The page for operators shows the same picture as the source.
func TestThePictureIsOnThePage(t *testing.T) {
	code, err := os.ReadFile("state.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../../docs/lifecycle.md")
	require.NoError(t, err)
	lines := 0
	for line := range strings.Lines(string(code)) {
		if picture, ok := strings.CutPrefix(line, "//\t"); ok {
			require.Contains(t, string(page), strings.TrimSpace(picture))
			lines++
		}
	}
	require.Greater(t, lines, 8)
}
