package fmp4

import (
	"encoding/binary"
	"io"
)

// ID3Scheme is the scheme of event messages whose data is an ID3 tag
// ("Carriage of ID3 Timed Metadata in CMAF", AOMedia).
const ID3Scheme = "https://aomedia.org/emsg/ID3"

// MaxEvent bounds an event message box, with its head.
const MaxEvent = 16 << 10

// eventFixed is what an event message has beside its strings and data: head,
// version and flags, timescale, presentation time, duration, id.
const eventFixed = boxHead + 4 + 4 + 8 + 4 + 4

// MaxEventData bounds the data of an event of ID3Scheme.
const MaxEventData = MaxEvent - eventFixed - len(ID3Scheme) - 2

// durationUnknown: the event lasts until something ends it, such as the next.
const durationUnknown = 0xFFFFFFFF

// Event makes an event message box of version 1 in ID3Scheme (ISO/IEC 23009-1,
// 5.10.3.3) that stands in front of a chunk. at is its presentation time in
// ticks of scale since stream time 0; two with one id are the same event. data
// is at most MaxEventData bytes and is copied.
func Event(scale uint32, at uint64, id uint32, data []byte) []byte {
	size := eventFixed + len(ID3Scheme) + 2 + len(data)
	b := make([]byte, 0, size)
	b = head(b, uint32(size), "emsg") //nolint:gosec // bounded by MaxEvent
	b = u32(b, 1<<24)
	b = u32(b, scale)
	b = binary.BigEndian.AppendUint64(b, at)
	b = u32(u32(b, durationUnknown), id)
	b = append(b, ID3Scheme...)
	b = append(b, 0, 0) // the end of the scheme, and an empty value
	return append(b, data...)
}

// skipEvents is where the chunk begins whose event messages begin at from;
// at most one of them stands in front of a chunk of ours, but nothing is lost
// by reading more.
func skipEvents(r io.ReaderAt, from, size int64) (int64, error) {
	at := from
	var head [boxHead]byte
	for at+boxHead <= size {
		if _, err := r.ReadAt(head[:], at); err != nil {
			return at, err
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		if string(head[4:]) != "emsg" || n < eventFixed || at+n-from > MaxEvent {
			break
		}
		at += n
	}
	return at, nil
}
