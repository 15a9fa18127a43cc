package ts

import (
	"bytes"
	"errors"
)

// The tables that are read.
const (
	tablePAT = 0x00
	tablePMT = 0x02
	// tableSplice is a splice_info_section (SCTE 35 §9.6).
	tableSplice = 0xfc
)

// maxPrograms and maxElementary bound what is believed of the tables; a
// section of 1024 bytes could name 253 programs or 200 elementary streams.
const (
	maxPrograms   = 64
	maxElementary = 64
)

var (
	errTableCRC   = errors.New("ts: the checksum of a table is wrong")
	errTableShort = errors.New("ts: a table ends too early")
)

// program is an entry of the PAT.
type program struct {
	number uint16
	pid    uint16 // of its PMT
}

// longSection checks the head and the CRC of a section in the long form and
// gives what is between (13818-1 §2.4.4.10). current is false for a table that
// is yet to come.
func longSection(b []byte) (id uint16, body []byte, current bool, err error) {
	if len(b) < 12 || b[1]&0x80 == 0 {
		return 0, nil, false, errTableShort
	}
	if sectionCRC(b) != 0 {
		return 0, nil, false, errTableCRC
	}
	return uint16(b[3])<<8 | uint16(b[4]), b[8 : len(b)-4], b[5]&1 == 1, nil
}

// readPAT lists the programs of a program association section (13818-1
// §2.4.4.3), without the network's.
func readPAT(b []byte, dst []program) (programs []program, current bool, err error) {
	_, body, current, err := longSection(b)
	if err != nil {
		return nil, false, err
	}
	for ; len(body) >= 4 && len(dst) < maxPrograms; body = body[4:] {
		p := program{number: uint16(body[0])<<8 | uint16(body[1]), pid: uint16(body[2]&0x1f)<<8 | uint16(body[3])}
		if p.number != 0 {
			dst = append(dst, p)
		}
	}
	return dst, current, nil
}

// elementary is an elementary stream that a PMT names.
type elementary struct {
	pid         uint16
	streamType  uint8
	format      format
	language    string
	descriptors []byte // a view of the section
}

// readPMT lists the elementary streams of a program map section (13818-1
// §2.4.4.8).
func readPMT(b []byte) (number uint16, list []elementary, current bool, err error) {
	number, body, current, err := longSection(b)
	if err != nil {
		return 0, nil, false, err
	}
	if len(body) < 4 {
		return 0, nil, false, errTableShort
	}
	info := int(body[2]&0x0f)<<8 | int(body[3])
	if 4+info > len(body) {
		return 0, nil, false, errTableShort
	}
	for body = body[4+info:]; len(body) >= 5 && len(list) < maxElementary; {
		size := int(body[3]&0x0f)<<8 | int(body[4])
		if 5+size > len(body) {
			return 0, nil, false, errTableShort
		}
		e := elementary{
			streamType:  body[0],
			pid:         uint16(body[1]&0x1f)<<8 | uint16(body[2]),
			descriptors: body[5 : 5+size : 5+size],
		}
		e.format = formatOf(e.streamType, e.descriptors)
		e.language = languageOf(e.descriptors)
		list = append(list, e)
		body = body[5+size:]
	}
	return number, list, current, nil
}

// Descriptors that are read (13818-1 table 2-45, ETSI EN 300 468 table 12).
const (
	tagRegistration = 0x05
	tagLanguage     = 0x0a
	tagMetadata     = 0x26
	tagAC3          = 0x6a
	tagEAC3         = 0x7a
	tagExtension    = 0x7f
)

// descriptor finds the body of the first descriptor with a tag; nil when there
// is none.
func descriptor(b []byte, tag uint8) []byte {
	for len(b) >= 2 && int(b[1]) <= len(b)-2 {
		size := int(b[1])
		if b[0] == tag {
			return b[2 : 2+size : 2+size]
		}
		b = b[2+size:]
	}
	return nil
}

// registered reports whether a registration descriptor names the format.
func registered(b []byte, name string) bool {
	d := descriptor(b, tagRegistration)
	return len(d) >= 4 && string(d[:4]) == name
}

// holdsID3 reports whether a metadata descriptor (13818-1 §2.6.60) or a
// registration says that the metadata are ID3 tags (Apple, Timed Metadata for
// HTTP Live Streaming).
func holdsID3(b []byte) bool {
	return registered(b, "ID3 ") || bytes.Contains(descriptor(b, tagMetadata), []byte("ID3 "))
}
