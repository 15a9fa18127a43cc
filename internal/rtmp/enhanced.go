package rtmp

import (
	"slices"
	"strings"

	"github.com/klive-media/klive/internal/rtmp/amf"
)

// Caps are the extended capabilities of a peer (Enhanced RTMP v2, capsEx).
type Caps uint32

// The capabilities.
const (
	// CapReconnect: it understands NetConnection.Connect.ReconnectRequest.
	CapReconnect Caps = 1 << iota
	// CapMultitrack: messages may hold several tracks.
	CapMultitrack
	// CapModEx: it can read over modifiers of a header.
	CapModEx
	// CapNanoOffset: it obeys timestamp offsets in nanoseconds.
	CapNanoOffset
)

// Has reports whether all capabilities of d are there.
func (c Caps) Has(d Caps) bool { return c&d == d }

// FourCCMask says what a peer can do with a codec.
type FourCCMask uint32

// What can be done with a codec.
const (
	CanDecode FourCCMask = 1 << iota
	CanEncode
	CanForward
)

// FourCCInfo is one entry of a videoFourCcInfoMap or audioFourCcInfoMap. The
// name is four characters, or "*" for every codec.
type FourCCInfo struct {
	Name string
	Mask FourCCMask
}

// Enhanced is what a peer says of Enhanced RTMP in connect, or in the answer
// to it. The zero value says nothing.
type Enhanced struct {
	// List is fourCcList, which version 1 knows alone.
	List         []string
	Video, Audio []FourCCInfo
	Caps         Caps
}

// maxFourCCs bounds how many codecs of a peer are kept.
const maxFourCCs = 64

// said reports whether anything was said.
func (e *Enhanced) said() bool {
	return e.Caps != 0 || len(e.List) > 0 || len(e.Video) > 0 || len(e.Audio) > 0
}

// readEnhanced reads the properties of a command object.
func readEnhanced(v amf.Value) Enhanced {
	var e Enhanced
	list, _ := amf.Lookup(v, "fourCcList").(amf.StrictArray)
	for _, x := range list[:min(len(list), maxFourCCs)] {
		if name, _ := x.(string); isFourCC(name) {
			e.List = append(e.List, name)
		}
	}
	e.Video, e.Audio = readInfoMap(v, "videoFourCcInfoMap"), readInfoMap(v, "audioFourCcInfoMap")
	if n, ok := amf.LookupNumber(v, "capsEx"); ok && n >= 0 && n < 1<<32 {
		e.Caps = Caps(n)
	}
	return e
}

func readInfoMap(v amf.Value, name string) (out []FourCCInfo) {
	for _, p := range amf.Properties(amf.Lookup(v, name)) {
		n, _ := p.Value.(float64)
		if isFourCC(p.Name) && n >= 0 && n < 1<<32 && len(out) < maxFourCCs {
			out = append(out, FourCCInfo{Name: strings.Clone(p.Name), Mask: FourCCMask(n)})
		}
	}
	return out
}

func isFourCC(name string) bool { return len(name) == 4 || name == "*" }

// properties are the properties that say e; none for the zero value.
func (e *Enhanced) properties() amf.Object {
	var o amf.Object
	if len(e.List) > 0 {
		list := make(amf.StrictArray, 0, len(e.List))
		for _, name := range e.List {
			list = append(list, name)
		}
		o = append(o, amf.Property{Name: "fourCcList", Value: list})
	}
	for _, m := range [...]struct {
		name  string
		infos []FourCCInfo
	}{{"videoFourCcInfoMap", e.Video}, {"audioFourCcInfoMap", e.Audio}} {
		if len(m.infos) == 0 {
			continue
		}
		infos := make(amf.Object, 0, len(m.infos))
		for _, i := range m.infos {
			infos = append(infos, amf.Property{Name: i.Name, Value: float64(i.Mask)})
		}
		o = append(o, amf.Property{Name: m.name, Value: infos})
	}
	if e.Caps != 0 {
		o = append(o, amf.Property{Name: "capsEx", Value: float64(e.Caps)})
	}
	return slices.Clip(o)
}
