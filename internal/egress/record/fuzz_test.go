package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/segment/fmp4"
	"github.com/klive-media/klive/internal/segment/mp4"
)

// smallWork is a work file with two segments and a mark.
func smallWork(t testing.TB) []byte {
	init, err := fmp4.Init(videoTrack(1))
	require.NoError(t, err)
	text, err := json.Marshal(workHead{Recording: "r", Stream: "lobby", Rendition: "1", Number: 1})
	require.NoError(t, err)
	b := appendRecord(init, boxHead, text)
	for n := range uint64(2) {
		chunk := append(fmp4.Chunk(1, uint32(videoTrack(1).ID), n*9000, []fmp4.Sample{{Size: 3, Duration: 9000, Flags: fmp4.KeyFlags}}), 1, 2, 3)
		s := workSegment{kind: 1, number: n, start: time.Duration(n) * time.Second, duration: time.Second, wall: begun, size: int64(len(chunk))}
		b = append(appendRecord(b, boxSegment, s.record()), chunk...)
		b = appendRecord(b, boxEnd, binary.BigEndian.AppendUint32(nil, crc32.Checksum(chunk, castagnoli)))
	}
	b = appendRecord(b, boxMark, append(make([]byte, 16), "mark"...))
	return appendRecord(b, boxSynced, []byte{0, 0, 0, 0, 0, 0, 1, 0})
}

func FuzzWorkFile(f *testing.F) {
	whole := smallWork(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-9])
	f.Add(whole[:700])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		c, err := scan(r, int64(len(b)))
		if err != nil {
			return
		}
		if c.good > int64(len(b)) || c.synced > c.good {
			t.Fatalf("good to %d, synced to %d of %d", c.good, c.synced, len(b))
		}
		for _, s := range c.segments {
			if s.at < 0 || s.at+s.size > c.good {
				t.Fatalf("a segment at %d of %d bytes in %d", s.at, s.size, c.good)
			}
		}
		for _, m := range c.marks {
			if m.pos < 0 || m.len < 0 || m.pos+m.len > c.good {
				t.Fatalf("a mark at %d of %d bytes in %d", m.pos, m.len, c.good)
			}
		}
		if _, err := c.verify(r); err != nil {
			t.Fatal(err)
		}
		c.dropBad()
		again, err := scan(bytes.NewReader(b[:c.good]), c.good)
		if err != nil || len(again.segments) != len(c.segments) {
			t.Fatalf("what is good is not read again: %v", err)
		}
		cutShort(r, c.good, int64(len(b)))
		// A piece is made of it or it is refused; it never stops the server.
		rec := &recording{id: "r", info: egress.Info{Stream: "lobby"}}
		m, note, _, err := assemble(r, int64(len(b)), &mp4.Source{}, rec)
		if err == nil && (m.Samples() == 0 || note.Duration < 0) {
			t.Fatalf("%+v", note)
		}
	})
}

func FuzzSidecar(f *testing.F) {
	c := &recording{id: newID(), info: egress.Info{Stream: "lobby", Broadcast: "b", Start: begun}, began: begun, closing: begun,
		renditions: map[string]*rendition{"1": {id: "1", next: 7}}, gaps: []gap{{"1", 1, 2}}}
	b, err := json.Marshal(c.sidecar())
	require.NoError(f, err)
	f.Add(b, c.id)
	f.Add([]byte(`{"version":2}`), "")
	f.Add([]byte(`[]`), "x")
	f.Fuzz(func(t *testing.T, b []byte, id string) {
		s, err := parseSidecar(b, id)
		if err == nil && (s.ID != id || s.Stream == "" || len(s.Gaps) > maxGaps) {
			t.Fatalf("%+v", s)
		}
	})
}

func FuzzPieceName(f *testing.F) {
	f.Add("lobby.1.0.1", "lobby", 0)
	f.Add("lobby.%2e.1.1", "lobby", 1)
	f.Fuzz(func(t *testing.T, name, stream string, index int) {
		if r, n, ok := parsePieceName(name, stream, index); ok && pieceName(stream, r, index, n) != name {
			t.Fatalf("%q is read as %q %d", name, r, n)
		}
	})
}

func TestSmallWorkFile(t *testing.T) {
	b := smallWork(t)
	c, err := scan(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Len(t, c.segments, 2)
	require.Len(t, c.marks, 1)
	require.EqualValues(t, len(b), c.good)
	require.EqualValues(t, 256, c.synced)
	bad, err := c.verify(bytes.NewReader(b))
	require.NoError(t, err)
	require.Zero(t, bad)
}
