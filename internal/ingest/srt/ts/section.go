package ts

// maxSection bounds a section: private sections, such as SCTE 35's, have at
// most 4096 bytes, PAT and PMT 1024 (13818-1 §2.4.4).
const maxSection = 4096

// sections puts the sections of one PID together, which packets cut anywhere.
// Its zero value waits for the start of one.
type sections struct {
	buf  []byte
	open bool // buf is the beginning of a section
}

// lose forgets what is there of a section.
func (s *sections) lose() { s.open, s.buf = false, s.buf[:0] }

// add takes a packet's payload and calls each for the sections that it
// completes. They are valid during the call. ok is false when the payload
// cannot be read.
func (s *sections) add(payload []byte, start bool, each func([]byte) error) (ok bool, err error) {
	if !start {
		if !s.open {
			return true, nil
		}
		s.buf = append(s.buf, payload...)
		return s.flush(each)
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		s.lose()
		return false, nil
	}
	end, rest := payload[1:1+int(payload[0])], payload[1+int(payload[0]):]
	if s.open && len(end) > 0 {
		s.buf = append(s.buf, end...)
		if _, err := s.flush(each); err != nil {
			return true, err
		}
	}
	s.buf, s.open = append(s.buf[:0], rest...), true
	return s.flush(each)
}

// flush hands out the sections that are whole.
func (s *sections) flush(each func([]byte) error) (ok bool, err error) {
	at := 0
	for {
		b := s.buf[at:]
		if len(b) == 0 || b[0] == 0xff { // stuffing up to the next start
			s.lose()
			return true, nil
		}
		if len(b) < 3 {
			break
		}
		size := 3 + int(b[1]&0x0f)<<8 + int(b[2])
		if size > maxSection {
			s.lose()
			return false, nil
		}
		if len(b) < size {
			break
		}
		if err := each(b[:size:size]); err != nil {
			return true, err
		}
		at += size
	}
	s.buf = s.buf[:copy(s.buf, s.buf[at:])]
	return true, nil
}

// crcTable is for the CRC of sections: polynomial 0x04c11db7, most significant
// bit first (13818-1 annex A).
var crcTable = tableOfCRCs()

func tableOfCRCs() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ 0x04c11db7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}

// sectionCRC is 0 over a section that ends with its own CRC.
func sectionCRC(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c = c<<8 ^ crcTable[byte(c>>24)^x]
	}
	return c
}
