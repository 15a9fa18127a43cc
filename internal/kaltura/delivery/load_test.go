package delivery

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/stream"
)

// manyRows is a queue that knows a day of 200 entries with three renditions.
func manyRows(b *testing.B) *Queue {
	recs := &recordings{changed: make(chan struct{})}
	for i := range 200 {
		r := &stream.Recording{ID: fmt.Sprintf("%032x", i), Stream: fmt.Sprintf("0_many%04d", i), Partner: partner, Mode: egress.RecordPerSession, Start: time.Now()}
		for _, rd := range renditions {
			for n := 1; n <= 96; n++ {
				r.Pieces = append(r.Pieces, stream.Piece{Rendition: rd, Number: n, Duration: pieceDuration, Size: 1, Finished: true})
			}
		}
		recs.list = append(recs.list, r)
	}
	q, err := New(context.Background(), Options{Recordings: recs, rows: newDisk()})
	if err == nil {
		err = q.reconcile(context.Background())
	}
	if err != nil {
		b.Fatal(err)
	}
	return q
}

func BenchmarkReconcile(b *testing.B) {
	q := manyRows(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := q.reconcile(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSettled(b *testing.B) {
	q := manyRows(b)
	for b.Loop() {
		if ok, _ := q.Settled("0_many0007", 0); ok {
			b.Fatal("it is not")
		}
	}
}
