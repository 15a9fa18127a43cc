package ac3

// FrameHead is how many bytes FrameSize looks at.
const FrameHead = 8

// FrameSize tells how many bytes the frame has that b begins with, of which
// FrameHead must be there, so that frames can be found in a byte stream. primary:
// a packet begins with it; else it belongs to the packet of the frame before
// (E-AC-3: a dependent substream or another programme). ok is false when no
// frame begins here.
func FrameSize(b []byte) (size int, primary, ok bool) {
	if len(b) < FrameHead || int(b[0])<<8|int(b[1]) != syncWord {
		return 0, false, false
	}
	if bsid := b[5] >> 3; bsid > 10 {
		return 2 * ((int(b[2]&7)<<8 | int(b[3])) + 1), b[2]>>6 != 1 && b[2]>>3&7 == 0, true
	}
	rate, code := int(b[4]>>6), b[4]&0x3f
	if rate >= len(sampleRates) || int(code>>1) >= len(bitRates) {
		return 0, false, false
	}
	size = 2 * (bitRates[code>>1] * 96000 / sampleRates[rate])
	if rate == 1 && code&1 == 1 { // 44.1 kHz: every other frame is longer
		size += 2
	}
	return size, true, size >= FrameHead
}
