package lifecycle

import "fmt"

// State is where an entry at one server index stands between what is on air
// here and what the backend was told.
//
//	IDLE ───────────┐ a publisher is let in
//	  │             ▼
//	  │          GRANTED ─────────────────────▶ GONE   it left without media
//	  │ media       │ media
//	  ▼             ▼
//	┌──────────────── kept registered ────────────────┐
//	│ ON_AIR ◀──── it plays, or no longer ──▶ PLAYING │
//	│   ▲                                        ▲    │
//	│   └──────▶ WAITING for a publisher ◀───────┘    │
//	└──────┬────────────┬───────────────────────▲─────┘
//	       │            │ another host has it   │ publisher back
//	       │            └─────▶ TAKEN_OVER ─────┤
//	       │ the broadcast ended     └──────────┼─▶ GONE   it ended
//	       ▼                                    │
//	    ENDING ─────────────────────────────────┘ a new broadcast
//	     │   └──▶ GRANTED   a new publisher
//	     ▼
//	   GONE   told, given up, or another host's
//
// ON_AIR is told as BROADCASTING, PLAYING as PLAYABLE, WAITING as whichever
// the broadcast still is. Only ENDING tells the end. GONE is final: what comes
// after begins at IDLE.
type State uint8

// The states.
const (
	Idle      State = iota // nothing is known yet
	Granted                // a publisher was let in; media did not arrive
	OnAir                  // media arrives; nothing can be played yet, or no longer
	Playing                // viewers can watch
	Waiting                // no publisher, or one without media, until the reconnect window is over
	TakenOver              // the same, and another host has the entry now
	Ending                 // the broadcast is over and the backend was not told
	Gone                   // nothing is left to do
)

// Trigger is what moves a State: what is seen here, or what was learnt from
// the backend.
type Trigger uint8

// The triggers. Of the Seen ones exactly one is true at any moment.
const (
	// SeenNothing: no broadcast lives and no publisher is connected.
	SeenNothing Trigger = iota + 1
	// SeenPublisher: no broadcast lives; a publisher is connected that was let
	// in by the grant of the last one, so that the backend knows nothing of it.
	SeenPublisher
	// SeenNewcomer: the same, but the backend was asked: it took what it was
	// told before for replaced by AUTHENTICATED.
	SeenNewcomer
	SeenBroadcasting // a broadcast with a publisher, nothing to play
	SeenPlayable     // a broadcast with a publisher that plays
	SeenWaiting      // a broadcast without a publisher, or with one that sends nothing
	FoundOther       // the backend has the entry at another host
	ToldEnd          // the backend knows the end
	GaveUp           // it is too late to tell: the backend found out by itself
)

// transitions is the whole machine. What is not in it cannot happen.
var transitions = map[State]map[Trigger]State{
	Idle: {
		SeenNothing: Gone, SeenPublisher: Granted, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
	},
	Granted: {
		SeenNothing: Gone, SeenPublisher: Granted, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
	},
	OnAir: {
		SeenNothing: Ending, SeenPublisher: Ending, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
	},
	Playing: {
		SeenNothing: Ending, SeenPublisher: Ending, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
	},
	Waiting: {
		SeenNothing: Ending, SeenPublisher: Ending, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
		FoundOther: TakenOver,
	},
	TakenOver: {
		SeenNothing: Gone, SeenPublisher: Granted, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: TakenOver,
	},
	Ending: {
		SeenNothing: Ending, SeenPublisher: Ending, SeenNewcomer: Granted,
		SeenBroadcasting: OnAir, SeenPlayable: Playing, SeenWaiting: Waiting,
		FoundOther: Gone, ToldEnd: Gone, GaveUp: Gone,
	},
}

// Next is the state after the trigger, or an error when the table has no such
// step.
func (s State) Next(t Trigger) (State, error) {
	if n, ok := transitions[s][t]; ok {
		return n, nil
	}
	return s, fmt.Errorf("no step from %s by %s", s, t)
}

// Tells reports whether the backend is to be told that the entry is on air.
func (s State) Tells() bool { return s == OnAir || s == Playing || s == Waiting }

var stateNames = [...]string{"IDLE", "GRANTED", "ON_AIR", "PLAYING", "WAITING", "TAKEN_OVER", "ENDING", "GONE"}

// String is the state's name in logs.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

var triggerNames = [...]string{
	SeenNothing: "nothing lives", SeenPublisher: "a publisher under an old grant", SeenNewcomer: "a publisher under a new grant",
	SeenBroadcasting: "media arrives", SeenPlayable: "it plays", SeenWaiting: "no publisher, or no media",
	FoundOther: "another host has it", ToldEnd: "the end was told", GaveUp: "too late to tell",
}

// String says the trigger in words.
func (t Trigger) String() string {
	if int(t) < len(triggerNames) && triggerNames[t] != "" {
		return triggerNames[t]
	}
	return fmt.Sprintf("trigger %d", uint8(t))
}
