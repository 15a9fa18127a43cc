package h264

import (
	"bytes"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// add puts a parameter set in the place of the one with its id, or behind the
// others. It reports whether that changes anything.
func (c *Config) add(nal []byte) (changed bool, err error) {
	sets, most := &c.SPS, maxSPS
	switch typeOf(nal) {
	case NALPPS:
		sets, most = &c.PPS, maxPPS
	case NALSPSExt:
		sets, most = &c.SPSExt, maxSPSExt
	}
	id, err := setID(nal)
	if err != nil {
		return false, err
	}
	for i, old := range *sets {
		if bytes.Equal(old, nal) {
			return false, nil
		}
		if oldID, err := setID(old); err == nil && oldID == id {
			(*sets)[i] = nal
			return true, nil
		}
	}
	if len(*sets) >= most {
		return false, errConfigSets
	}
	*sets = append(*sets, nal)
	return true, nil
}

// setID is the id of a parameter set.
func setID(nal []byte) (uint32, error) {
	r := bits.NewNALReader(nal[1:])
	limit := uint32(31)
	switch typeOf(nal) {
	case NALSPS:
		r.Skip(24) // profile_idc, constraint flags, level_idc
	case NALPPS:
		limit = 255
	}
	id := r.UE(limit)
	return id, r.Err()
}

// UpdateConfig takes the parameter sets that stand inside a payload, which
// NormalizePayload reported as Info.ParameterSets, into a configuration
// record. payload is the one that was given to NormalizePayload. When they are
// the ones config has, as with encoders that repeat them before every key
// frame, config itself is returned and changed is false. An empty config is
// one without parameter sets. Neither slice is kept. Errors are
// fault.BadMedia.
func UpdateConfig(config, payload []byte, lengthSize int) (updated []byte, changed bool, err error) {
	if holdsAll(config, payload, lengthSize) {
		return config, false, nil
	}
	c := Config{LengthSize: 4}
	if len(config) > 0 {
		if c, err = ParseConfig(config); err != nil {
			return nil, false, err
		}
	}
	for s := Scan(payload, lengthSize); s.Next(); {
		nal := s.NAL()
		if len(nal) == 0 || !typeOf(nal).isParameterSet() {
			continue
		}
		ch, err := c.add(nal)
		if err != nil {
			return nil, false, fault.New(fault.BadMedia,
				"a parameter set inside the H.264 stream cannot be used; restart the encoder").Because(err)
		}
		changed = changed || ch
	}
	if !changed {
		return config, false, nil
	}
	if updated, err = c.Append(nil); err != nil {
		return nil, false, err
	}
	return updated, true, nil
}

// holdsAll reports whether every parameter set of the payload stands in config
// byte by byte. It allocates nothing, unlike parsing, because it is called for
// every key frame of some encoders.
func holdsAll(config, payload []byte, lengthSize int) bool {
	for s := Scan(payload, lengthSize); s.Next(); {
		if nal := s.NAL(); len(nal) > 0 && typeOf(nal).isParameterSet() && !holds(config, nal) {
			return false
		}
	}
	return true
}

// holds looks for one SPS or PPS in a configuration record. Another kind, and
// a record that cannot be read, is for the caller to parse.
func holds(config, nal []byte) bool {
	if len(config) < 6 {
		return false
	}
	b, mask := config[5:], byte(0x1f)
	for range 2 { // SPS, then PPS
		if len(b) == 0 {
			return false
		}
		n := int(b[0] & mask)
		b, mask = b[1:], 0xff
		for range n {
			if len(b) < 2 {
				return false
			}
			size := int(b[0])<<8 | int(b[1])
			if size > len(b)-2 {
				return false
			}
			if bytes.Equal(b[2:2+size], nal) {
				return true
			}
			b = b[2+size:]
		}
	}
	return false
}
