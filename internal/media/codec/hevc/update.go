package hevc

import (
	"bytes"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/bits"
	"github.com/klive-media/klive/internal/media/codec/nal"
)

// add puts a parameter set in the place of the one with its id, or behind the
// others. It reports whether that changes anything.
func (c *Config) add(set []byte) (changed bool, err error) {
	sets := c.array(typeOf(set))
	id, err := setID(set)
	if err != nil {
		return false, err
	}
	for i, old := range *sets {
		if bytes.Equal(old, set) {
			return false, nil
		}
		if oldID, err := setID(old); err == nil && oldID == id {
			(*sets)[i] = set
			return true, nil
		}
	}
	if len(*sets) >= maxSets {
		return false, errConfigSets
	}
	*sets = append(*sets, set)
	return true, nil
}

// setID is the id of a parameter set.
func setID(set []byte) (uint32, error) {
	if len(set) <= headSize {
		return 0, errConfigSize
	}
	r := bits.NewNALReader(set[headSize:])
	switch typeOf(set) {
	case NALVPS:
		return r.U(4), r.Err()
	case NALSPS:
		r.U(4)
		layers := int(r.U(3))
		r.U(1)
		readProfile(&r, layers)
		return r.UE(15), r.Err()
	}
	return r.UE(63), r.Err()
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
	for s := nal.Scan(payload, lengthSize); s.Next(); {
		set := s.NAL()
		if len(set) == 0 || !typeOf(set).isParameterSet() {
			continue
		}
		ch, err := c.add(set)
		if err != nil {
			return nil, false, fault.New(fault.BadMedia,
				"a parameter set inside the HEVC stream cannot be used; restart the encoder").Because(err)
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
	for s := nal.Scan(payload, lengthSize); s.Next(); {
		if n := s.NAL(); len(n) > 0 && typeOf(n).isParameterSet() && !holds(config, n) {
			return false
		}
	}
	return true
}

// holds looks for one NAL unit in a configuration record.
func holds(config, set []byte) bool {
	if len(config) < configHead {
		return false
	}
	arrays := int(config[22])
	b := config[configHead:]
	for range arrays {
		if len(b) < 3 {
			return false
		}
		n := int(b[1])<<8 | int(b[2])
		b = b[3:]
		for range n {
			if len(b) < 2 {
				return false
			}
			size := int(b[0])<<8 | int(b[1])
			if size > len(b)-2 {
				return false
			}
			if bytes.Equal(b[2:2+size], set) {
				return true
			}
			b = b[2+size:]
		}
	}
	return false
}
