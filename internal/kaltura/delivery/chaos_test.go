package delivery

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

// chaos is a server in a bad neighbourhood: faults, stops and crashes, by a
// seed.
type chaos struct {
	*house
	*rand.Rand
	change func(*Options)
	q      *Queue
	stop   func()
	recs   []*stream.Recording
	made   map[string]map[string]int // pieces made, by recording and rendition
}

func (c *chaos) fault() kalturatest.Fault {
	kinds := []kalturatest.Fault{{Kind: kalturatest.Lost}, {Kind: kalturatest.Lost}, {Kind: kalturatest.Down}, {Kind: kalturatest.Status, Status: 502},
		{Kind: kalturatest.HTML}, {Kind: kalturatest.Slow, Delay: time.Duration(c.IntN(200)) * time.Second},
		{Kind: kalturatest.Code, Code: "INTERNAL_SERVERL_ERROR"}, {Kind: kalturatest.Code, Code: "LOCK_TIMED_OUT"}, {Kind: kalturatest.Code, Code: "INVALID_KS"}}
	f := kinds[c.IntN(len(kinds))]
	f.Action = []string{"", "appendRecording", "appendRecording", "appendRecording", "get", "upload"}[c.IntN(6)]
	f.Times = 1 + c.IntN(3)
	return f
}

func (c *chaos) step() {
	switch n := c.IntN(13); {
	case n == 12: // the backend goes on working behind a connection that broke
		c.line.mu.Lock()
		c.line.late = time.Duration(1+c.IntN(60)) * time.Second
		c.line.mu.Unlock()
	case n < 5:
		for range 1 + c.IntN(4) {
			r := c.recs[c.IntN(len(c.recs))]
			rd := renditions[c.IntN(len(renditions))]
			c.made[r.ID][rd]++
			c.house.recs.piece(r, rd, c.made[r.ID][rd], false)
		}
	case n < 8:
		c.inject(c.fault())
	case n == 8:
		c.line.set(true)
		time.Sleep(time.Duration(c.IntN(7200)) * time.Second)
		c.line.set(false)
	case n == 9:
		c.stop()
		c.q, c.stop = c.start(c.change)
	default: // kill -9 at one of the next writes, before or after it
		left := atomic.Int32{}
		left.Store(1 + c.Int32N(4))
		late := c.IntN(2) == 0
		k := c.killWhen(func(_ string, _ *row, after bool) bool { return after == late && left.Add(-1) == 0 })
		r := c.recs[0]
		for _, rd := range renditions {
			c.made[r.ID][rd]++
			c.house.recs.piece(r, rd, c.made[r.ID][rd], false)
		}
		time.Sleep(time.Duration(c.IntN(600)) * time.Second)
		select {
		case <-k.dead:
		default:
			k.die()
		}
		c.stop()
		k.revive()
		c.q, c.stop = c.start(c.change)
	}
	time.Sleep(time.Duration(c.IntN(120)) * time.Second)
}

// check holds what came of it against what was promised.
func (c *chaos) check() {
	c.t.Helper()
	got := c.got()
	for _, r := range c.recs {
		of := map[string]stream.DeliveryState{}
		for _, d := range c.q.Of(r.ID) {
			of[fmt.Sprintf("%s/%d", d.Rendition, d.Number)] = d.State
		}
		for rd, n := range c.made[r.ID] {
			arrived := got[lane1(r.Stream, rd, r.ServerIndex)]
			at := -1
			for i, sum := range want(r.ID, rd, 1, n) {
				name := fmt.Sprintf("%s %s/%d", r.ID, rd, i+1)
				state := of[fmt.Sprintf("%s/%d", rd, i+1)]
				place := slices.Index(arrived, sum)
				times := 0
				for _, have := range arrived {
					if have == sum {
						times++
					}
				}
				require.LessOrEqual(c.t, times, 1, "%s arrived twice", name)
				require.Contains(c.t, []stream.DeliveryState{stream.DeliveryDelivered, stream.DeliveryInDoubt}, state, name)
				if state == stream.DeliveryDelivered {
					require.Equal(c.t, 1, times, "%s is lost", name)
				}
				if times == 1 {
					require.Greater(c.t, place, at, "%s is out of order", name)
					at = place
				}
			}
		}
	}
}

func TestNothingIsLostOrSentTwice(t *testing.T) {
	for name, change := range map[string]func(*Options){"shared disk": nil, "uploads": uploads} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &chaos{house: newHouse(t, nil), Rand: rand.New(rand.NewPCG(seed, 42)), change: change, made: map[string]map[string]int{}}
					for i, of := range []string{entry, entryB, entry} {
						r := c.house.recs.begin(fmt.Sprintf("rec%d", i), of, i/2)
						if of == entryB {
							// Its flavors differ; the test's renditions are those of the first.
							r = c.house.recs.begin(fmt.Sprintf("rec%db", i), entry, 0)
						}
						c.recs = append(c.recs, r)
						c.made[r.ID] = map[string]int{}
						time.Sleep(time.Second)
					}
					c.q, c.stop = c.start(change)
					for range 30 {
						c.step()
					}
					c.backend.ClearFaults(0)
					for range 30 { // until even the slowest lane is through
						c.q.Resync()
						time.Sleep(5 * time.Minute)
					}
					c.check()
					c.stop()
				})
			})
		}
	}
}

func FuzzRow(f *testing.F) {
	for _, r := range []*row{
		{Recording: "a", Rendition: "32", Number: 1, State: queued, Queued: time.Unix(1, 0).UTC()},
		{Recording: "a", Rendition: "1~x", Number: 2, State: sending, Intent: &intent{By: "x", Before: 5, Certain: true}, Upload: &upload{Token: "t", Offset: 7}},
	} {
		text, err := json.Marshal(r)
		require.NoError(f, err)
		f.Add(keyOf(r.Recording, r.Rendition, r.Number), text)
	}
	f.Add("x", []byte("{}"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		r, err := decodeRow(key, value, 1)
		if err != nil {
			return
		}
		require.NotContains(t, r.shown(false).State.String(), "UNSPECIFIED")
		text, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := decodeRow(key, text, 1)
		require.NoError(t, err)
		require.Equal(t, r.State, again.State)
	})
}
