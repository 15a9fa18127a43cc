package stream

import "fmt"

// State is where a session, a broadcast or a stream stands. Only this package
// changes it.
//
//	             let in          first tracks        first playable part
//	CONNECTING ─────────▶ AUTHENTICATED ─────────▶ BROADCASTING ◀───────▶ PLAYABLE
//	    │                      │                        │    nothing left     │
//	    │ refused              │ ends                   │ ends                │ ends
//	    ▼                      ▼                        ▼                     ▼
//	  FAILED            STOPPED | FAILED         STOPPED | FAILED      STOPPED | FAILED
//
// STOPPED is the end in good order or by decision of an operator, FAILED any
// other. Both are final: what comes after is a new session or broadcast. A
// broadcast whose publishers are gone keeps its state until its reconnect
// deadline.
type State uint8

// The states, in the order in which "furthest" is meant for the living ones.
const (
	StateUnspecified State = iota
	Connecting
	Authenticated
	Broadcasting
	Playable
	Stopped
	Failed
)

// Trigger is what moves a State.
type Trigger uint8

// The triggers.
const (
	LetIn       Trigger = iota + 1 // the authority accepted the publisher
	Announced                      // the first tracks are known
	CanPlay                        // the segmenter has something to play
	CannotPlay                     // no rendition has a listed segment left
	EndedWell                      // a goodbye, an operator, or the end of the window
	EndedBroken                    // refused, superseded, idle, lost
)

// transitions is the whole lifecycle.
var transitions = map[State]map[Trigger]State{
	Connecting: {
		LetIn:       Authenticated,
		EndedWell:   Stopped,
		EndedBroken: Failed,
	},
	Authenticated: {
		Announced:   Broadcasting,
		EndedWell:   Stopped,
		EndedBroken: Failed,
	},
	Broadcasting: {
		CanPlay:     Playable,
		EndedWell:   Stopped,
		EndedBroken: Failed,
	},
	Playable: {
		CannotPlay:  Broadcasting,
		EndedWell:   Stopped,
		EndedBroken: Failed,
	},
}

// Next is the state after the trigger, or an error when the table has no such
// step.
func (s State) Next(t Trigger) (State, error) {
	if n, ok := transitions[s][t]; ok {
		return n, nil
	}
	return s, fmt.Errorf("stream: no step from %s by trigger %d", s, t)
}

// Live reports whether the state is not final.
func (s State) Live() bool { return s >= Connecting && s <= Playable }

var stateNames = [...]string{
	"UNSPECIFIED", "CONNECTING", "AUTHENTICATED", "BROADCASTING", "PLAYABLE", "STOPPED", "FAILED",
}

// String is the state's name in the API.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "UNSPECIFIED"
}
