package control

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
)

// watches is what all watches share: their number and their heartbeat.
type watches struct {
	heartbeat time.Duration
	most      int64
	open      atomic.Int64
}

// enter counts a watch; the caller must leave.
func (w *watches) enter() error {
	if w.open.Add(1) > w.most {
		w.open.Add(-1)
		return fault.New(fault.LimitExceeded, "the server has %d watches open and takes no more; close one, or try again later", w.most).
			With("limit", "watches")
	}
	return nil
}

func (w *watches) leave() { w.open.Add(-1) }

// wait blocks until something changed, the heartbeat is due, or the watch must
// end, which is an error.
func (w *watches) wait(ctx context.Context, changed <-chan struct{}, beat *time.Timer) (due bool, err error) {
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-changed:
		return false, nil
	case <-beat.C:
		beat.Reset(w.heartbeat)
		return true, nil
	}
}

func heartbeat() *klivev1.Heartbeat { return &klivev1.Heartbeat{Time: timestamppb.Now()} }
