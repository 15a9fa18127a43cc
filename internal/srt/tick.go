package srt

import (
	"context"
	"time"
)

// tickEvery is how often connections answer their peers (§4.8.1); one timer
// does it for all.
const tickEvery = 10 * time.Millisecond

// tick looks after all connections until ctx ends.
func (l *Listener) tick(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	out := newOutbox()
	var all []*Conn
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if all = l.list(all[:0]); len(all) == 0 {
			if l.forget(nil) {
				ticker.Stop()
				select {
				case <-l.busy: // nobody is here
				case <-ctx.Done():
					return nil
				}
				ticker.Reset(tickEvery)
			}
			continue
		}
		now := l.now()
		for i, c := range all {
			if !c.tick(now, out) {
				all[i] = nil // stays
			}
			if out.full() {
				l.flush(out)
			}
		}
		l.forget(all)
		clear(all)
		l.flush(out)
	}
}

// tick answers the peer and gives up what is too late. It reports whether the
// connection is over and needs no memory any more.
func (c *Conn) tick(now int64, out *outbox) (over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		if c.owed && now-c.goodbyes >= int64(goodbyeAgain) {
			c.owed, c.goodbyes = false, now
			out.done(c.goodbye(out.next(c.remote), now))
		}
		return now-c.closedAt >= int64(linger)
	case c.err != nil:
		return false // waits for Close
	case now-c.heard >= int64(PeerTimeout):
		c.end(ErrLost)
		return false
	}
	if c.buf.expire(now) {
		c.wake()
	}
	if c.rate.turn(now) {
		c.buf.calm()
	}
	c.acknowledge(now, out)
	c.ask(now, out)
	if now-c.sent >= int64(keepAlive) {
		out.done(append(c.head(typeKeepAlive, 0, now).append(out.next(c.remote)), 0, 0, 0, 0))
		c.sent = now
	}
	return false
}

// acknowledge tells what has arrived, when that is news to the peer (§4.8.1).
// Light acknowledgements are not needed: the window is wider than what comes
// within a tick.
func (c *Conn) acknowledge(now int64, out *outbox) {
	next := c.buf.next
	if next == c.trip.answered || next == c.acked && now-c.ackedAt < c.trip.patience() {
		return
	}
	number := c.trip.acknowledge(next, now)
	out.done(appendACK(out.next(c.remote), c.head(typeACK, number, now), next, c))
	c.acked, c.ackedAt, c.sent = next, now, now
}

// askAgain is how long after a report the same is reported again.
func (c *Conn) askAgain() int64 { return max(c.trip.patience(), int64(minAskAgain)) }

// ask asks for what is missing, or still missing (§4.8.2).
func (c *Conn) ask(now int64, out *outbox) {
	if c.buf.next == c.buf.end {
		return
	}
	const most = (maxDatagram - headerSize) / 4
	var words [most]uint32
	report := c.buf.missing(words[:0], now, c.askAgain(), most)
	if len(report) == 0 {
		return
	}
	out.done(appendNAK(out.next(c.remote), c.head(typeNAK, 0, now), report))
	c.sent = now
}
