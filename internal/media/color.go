package media

// Color says what the numbers of a picture mean (ITU-T H.273) and, for high
// dynamic range, how bright it gets. Every field is 0 when it is not known; it
// is comparable.
type Color struct {
	// Primaries, Transfer and Matrix are indices into the tables of H.273; 2 is
	// "unspecified" there and 0 stands for it here.
	Primaries, Transfer, Matrix uint8
	FullRange                   bool
	// MaxCLL and MaxFALL are the brightest pixel and the brightest average of a
	// frame in cd/m² (CTA-861.3).
	MaxCLL, MaxFALL uint16
	// Mastering is the display that the picture was made on.
	Mastering Mastering
}

// Mastering is a mastering display colour volume (SMPTE ST 2086).
type Mastering struct {
	// Chromaticities as x and y in units of 0.00002.
	Red, Green, Blue, White [2]uint16
	// Luminance in units of 0.0001 cd/m².
	MaxLuminance, MinLuminance uint32
}

// The transfer characteristics of high dynamic range (H.273 table 3).
const (
	TransferPQ  = 16 // SMPTE ST 2084
	TransferHLG = 18 // ARIB STD-B67
)

// unspecified in the tables of H.273.
const unspecified = 2

// NewColor makes a Color of three indices as bitstreams write them.
func NewColor(primaries, transfer, matrix uint8, fullRange bool) Color {
	known := func(v uint8) uint8 {
		if v == unspecified {
			return 0
		}
		return v
	}
	return Color{Primaries: known(primaries), Transfer: known(transfer), Matrix: known(matrix), FullRange: fullRange}
}

// Merge gives c with what it does not say taken from o.
func (c Color) Merge(o Color) Color {
	if c.Primaries == 0 && c.Transfer == 0 && c.Matrix == 0 {
		c.Primaries, c.Transfer, c.Matrix = o.Primaries, o.Transfer, o.Matrix
		c.FullRange = c.FullRange || o.FullRange
	}
	if c.MaxCLL == 0 && c.MaxFALL == 0 {
		c.MaxCLL, c.MaxFALL = o.MaxCLL, o.MaxFALL
	}
	if c.Mastering == (Mastering{}) {
		c.Mastering = o.Mastering
	}
	return c
}
