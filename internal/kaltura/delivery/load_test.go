package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/store"
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

// longDelivered makes all rows those of pieces delivered two days ago.
func (q *Queue) longDelivered() {
	for _, r := range q.table {
		r = r.copy()
		r.File = fmt.Sprintf("/var/lib/klive/recordings/%s/%s/%06d.mp4", r.Recording, r.Rendition, r.Number)
		r.State, r.Asset, r.Queued = delivered, fmt.Sprintf("0_asset%03d", r.Number), time.Now().Add(-50*time.Hour)
		r.Tried, r.Done = r.Queued, time.Now().Add(-49*time.Hour)
		r.Intent = &intent{By: "0123456789012345678901", Asked: r.Queued, Before: 1, After: 2, Recorded: "0_recorded"}
		q.place(r)
	}
	q.lanes = map[laneID]*lane{}
	for _, r := range q.opts.Recordings.(*recordings).list {
		r.End = time.Now()
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDeliveredRows says what a row of an old recording takes in memory,
// as it was read from the store, and when it is packed.
func BenchmarkDeliveredRows(b *testing.B) {
	q := manyRows(b)
	q.longDelivered()
	n := len(q.table)
	var rows []store.Record
	for _, r := range q.table {
		value, err := json.Marshal(r)
		if err != nil {
			b.Fatal(err)
		}
		rows = append(rows, store.Record{Key: r.key, Value: value, Revision: 1})
	}
	q.table = map[pieceID]*row{}
	before := heap()
	for _, rec := range rows {
		r, err := decodeRow(rec.Key, rec.Value, rec.Revision)
		if err != nil {
			b.Fatal(err)
		}
		q.place(r)
	}
	q.lanes = map[laneID]*lane{}
	full := heap() - before
	if err := q.reconcile(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		q.pack()
	}
	if len(q.table) > 0 {
		b.Fatal("rows were left in memory")
	}
	q.table = map[pieceID]*row{} // the slots of rows that went are for new ones
	packed := heap()
	q.known = nil
	packed -= heap()
	runtime.KeepAlive(rows)
	runtime.KeepAlive(q)
	b.ReportMetric(float64(full)/float64(n), "B/row")
	b.ReportMetric(float64(packed)/float64(n), "B/row-packed")
}

func BenchmarkReconcilePacked(b *testing.B) {
	q := manyRows(b)
	q.longDelivered()
	if err := q.reconcile(b.Context()); err != nil {
		b.Fatal(err)
	}
	q.pack()
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
