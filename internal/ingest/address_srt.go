package ingest

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/klive-media/klive/internal/fault"
)

// MaxStreamID bounds an SRT stream id, as the protocol does (libsrt
// SRTO_STREAMID).
const MaxStreamID = 512

// The beginnings of the forms of a stream id.
const (
	accessPrefix  = "#!::" // SRT Access Control Guidelines
	nestedPrefix  = "#!:{" // the same with nested keys, which says nothing more for a publisher
	kalturaPrefix = "#:::" // as Kaltura backends write it
	shortPrefix   = "publish:"
)

// ArgMode is the key of the access control form that says what the caller
// wants; it stands in the metadata of the refusal of a reader.
const ArgMode = "m"

// SRTAddress is what a stream id says.
type SRTAddress struct {
	Request
	// Sealed is the passphrase as Kaltura backends put it into a stream id
	// (ep=): sealed, see Unseal. "" when there is none.
	Sealed string
}

// SRT reads a stream id. The forms:
//
//	#!::r=lobby_1,m=publish,u=102,token=TOKEN,index=0   access control
//	#:::e=0_rkij47dr,st=0,p=TOKEN                       Kaltura; ep= instead of p=, n=2 for the second ingest
//	kLive/lobby_1?p=102&e=lobby&i=0&t=TOKEN             query, as in RTMP
//	publish:lobby_1:102:TOKEN                           short; without partner also publish:lobby_1:TOKEN
//
// Clients do not agree whether the stream id in an srt:// URL is decoded, so
// that users write it both ways: it is read raw or percent-encoded as a whole,
// and its values are percent-decoded; a "%" that is not followed by two hex
// digits stays one.
//
// In the Kaltura form e may have the id of the backend in front
// (7-0_rkij47dr), and ep= is the token where there is no p=: a backend takes
// it as such. Only the query form must have all that Grammar.Require lists;
// the others need the stream and the token.
//
// Errors are *fault.Error with UnknownApplication, MissingArgument,
// BadStreamName or BadAddress; none holds the token. A caller that wants to
// read gets BadAddress with ArgMode as "argument". Remote, Encoder and
// Counters of the Request are left to the door.
func (g Grammar) SRT(streamID string) (SRTAddress, error) {
	if len(streamID) > MaxStreamID {
		return SRTAddress{}, fault.New(fault.BadAddress, "the stream id is longer than %d bytes", MaxStreamID)
	}
	s := strings.TrimSpace(streamID)
	for range 2 { // some users encode what their client encodes again
		if structured(s) {
			break
		}
		s = unescapeLeniently(s)
	}
	if !printable(s) {
		return SRTAddress{}, fault.New(fault.BadAddress, "the stream id holds characters that cannot be printed")
	}
	var (
		a   SRTAddress
		err error
	)
	switch {
	case s == "":
		return a, fault.New(fault.MissingArgument, "the stream id is missing in the address; use %s", g.srtExample("", arguments{})).With("argument", ArgToken)
	case strings.HasPrefix(s, accessPrefix):
		a, err = g.srtAccess(s[len(accessPrefix):])
	case strings.HasPrefix(s, kalturaPrefix):
		a, err = g.srtKaltura(s[len(kalturaPrefix):])
	case strings.HasPrefix(s, nestedPrefix), strings.HasPrefix(s, "#"):
		return a, fault.New(fault.BadAddress, "the stream id begins like none that this server reads; use %s", g.srtExample("", arguments{}))
	case strings.HasPrefix(s, shortPrefix) && !strings.Contains(s, "?"):
		a, err = g.srtShort(s[len(shortPrefix):])
	default:
		a, err = g.srtQuery(strings.TrimPrefix(s, shortPrefix))
	}
	if err != nil {
		return SRTAddress{}, err
	}
	return a, nil
}

// structured reports whether s shows one of the forms, so that it is not
// encoded as a whole.
func structured(s string) bool {
	switch {
	case strings.HasPrefix(s, "#"):
		return strings.Contains(s, "=")
	case strings.HasPrefix(s, "%23"), !strings.Contains(s, "%"):
		return false
	}
	return strings.Contains(s, "=") || strings.HasPrefix(s, shortPrefix)
}

// srtAccess reads the key=value pairs of the access control form.
func (g Grammar) srtAccess(s string) (SRTAddress, error) {
	var args arguments
	var resource, host, mode string
	err := srtPairs(s, func(key, value string) error {
		switch key {
		case "r":
			resource = value
		case "h":
			host = value
		case ArgMode:
			mode = value
		case "u":
			return args.set(ArgPartner, value)
		case "token":
			return args.set(ArgToken, value)
		case "index":
			return args.set(ArgServer, value)
		case "e":
			return args.set(ArgEntry, value)
		}
		return nil
	})
	if err != nil {
		return SRTAddress{}, err
	}
	if mode != "" && mode != "publish" {
		return SRTAddress{}, fault.New(fault.BadAddress, "this server takes SRT callers that publish only; use m=publish").With("argument", ArgMode)
	}
	name, err := g.srtName(resource)
	if err != nil {
		return SRTAddress{}, err
	}
	return g.srtAddress(name, host, args, "")
}

// srtKaltura reads the form that Kaltura backends write.
func (g Grammar) srtKaltura(s string) (SRTAddress, error) {
	var args arguments
	var sealed string
	ingest := "1"
	err := srtPairs(s, func(key, value string) error {
		switch key {
		case "e":
			return args.set(ArgEntry, g.withoutBackend(value))
		case "st":
			return args.set(ArgServer, value)
		case "p":
			return args.set(ArgToken, value)
		case "ep":
			sealed = value
		case "n":
			ingest = value
		}
		return nil
	})
	if err != nil {
		return SRTAddress{}, err
	}
	if args.entry == "" {
		return SRTAddress{}, fault.New(fault.MissingArgument, "the entry (e) is missing in the stream id; use #:::e=ENTRY,st=0,p=TOKEN").With("argument", ArgEntry)
	}
	if args.token == "" {
		args.token = sealed
	}
	return g.srtAddress(args.entry+"_"+ingest, "", args, sealed)
}

// withoutBackend takes the id of the backend off an entry.
func (g Grammar) withoutBackend(entry string) string {
	if g.IsID(entry) {
		return entry
	}
	if i := strings.LastIndexByte(entry, '-'); i >= 0 && g.IsID(entry[i+1:]) {
		return entry[i+1:]
	}
	return entry
}

// srtShort reads name:partner:token and name:token.
func (g Grammar) srtShort(s string) (SRTAddress, error) {
	parts := strings.SplitN(s, ":", 3)
	for i := range parts {
		parts[i] = unescapeLeniently(parts[i])
	}
	var args arguments
	var err error
	switch len(parts) {
	case 3:
		args.partner, args.token = parts[1], parts[2]
	case 2:
		args.token = parts[1]
	}
	if !printable(args.token) {
		return SRTAddress{}, unprintableValue(ArgToken)
	}
	name, err := g.srtName(parts[0])
	if err != nil {
		return SRTAddress{}, err
	}
	return g.srtAddress(name, "", args, "")
}

// srtQuery reads [application/]name?query.
func (g Grammar) srtQuery(s string) (SRTAddress, error) {
	path, query := cutQuery(s)
	name, err := g.srtName(unescapeLeniently(path))
	if err != nil {
		return SRTAddress{}, err
	}
	var args arguments
	if err := args.addQuery(strictEscapes(query)); err != nil {
		return SRTAddress{}, err
	}
	if err := args.require(g.Require, g.srtQueryExample(name, args)); err != nil {
		return SRTAddress{}, err
	}
	return g.srtAddress(name, "", args, "")
}

// srtName takes the application off a resource.
func (g Grammar) srtName(resource string) (string, error) {
	if !printable(resource) {
		return "", fault.New(fault.BadStreamName, "the stream name holds characters that cannot be printed")
	}
	resource = strings.Trim(resource, "/ ")
	if app, name, ok := strings.Cut(resource, "/"); ok {
		if app != g.Application {
			return "", fault.New(fault.UnknownApplication,
				"this server has no application %q; leave it out, or use %s", shown(app), g.Application)
		}
		return name, nil
	}
	return resource, nil
}

// srtAddress makes the Request of what a form gave.
func (g Grammar) srtAddress(name, host string, args arguments, sealed string) (SRTAddress, error) {
	if args.token == "" {
		return SRTAddress{}, fault.New(fault.MissingArgument,
			"the token is missing in the stream id; use %s", g.srtExample(name, args)).With("argument", ArgToken)
	}
	r, err := g.request("srt", name, args)
	if err != nil {
		return SRTAddress{}, err
	}
	r.Application, r.Hostname = g.Application, host
	return SRTAddress{Request: r, Sealed: sealed}, nil
}

// srtExample shows the right form with what is known put in. The name is
// repeated only when it is one: it may be the token, typed in the wrong place.
func (g Grammar) srtExample(name string, a arguments) string {
	if id, _, ok := SplitName(name); !ok || !g.IsID(id) {
		name = g.rightName("", 1, a)
	}
	return accessPrefix + "r=" + name + ",m=publish,token=TOKEN"
}

// srtQueryExample shows the query form.
func (g Grammar) srtQueryExample(name string, a arguments) string {
	if id, _, ok := SplitName(name); !ok || !g.IsID(id) {
		name = g.rightName("", 1, a)
	}
	if len(g.Require) > 1 {
		return name + "?p=PARTNER&e=ENTRY&i=0&t=TOKEN"
	}
	return name + "?t=TOKEN"
}

// srtPairs reads key=value pairs joined by commas and calls set for each.
func srtPairs(s string, set func(key, value string) error) error {
	for n := 0; s != ""; n++ {
		if n == maxArguments {
			return fault.New(fault.BadAddress, "the stream id has more than %d keys", maxArguments)
		}
		var pair string
		pair, s, _ = strings.Cut(s, ",")
		key, raw, _ := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		value := unescapeLeniently(strings.TrimSpace(raw))
		if !printable(value) {
			return unprintableValue(shown(key))
		}
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func unprintableValue(key string) error {
	return fault.New(fault.BadAddress, "the value of %q in the stream id holds characters that cannot be printed", key).With("argument", key)
}

// unescapeLeniently decodes every "%" that two hex digits follow.
func unescapeLeniently(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if hi, lo, ok := hexPair(s[i:]); ok {
			b.WriteByte(hi<<4 | lo)
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// strictEscapes encodes every "%" that two hex digits do not follow, for a
// reader that refuses them.
func strictEscapes(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteByte(s[i])
		if _, _, ok := hexPair(s[i:]); s[i] == '%' && !ok {
			b.WriteString("25")
		}
	}
	return b.String()
}

// hexPair reads the two digits of a "%XX" that s begins with.
func hexPair(s string) (hi, lo byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, 0, false
	}
	hi, ok1 := hexDigit(s[1])
	lo, ok2 := hexDigit(s[2])
	return hi, lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// SRTPaste is a broadcast address in the forms that users paste. All but
// Server hold the token.
type SRTPaste struct {
	// Server and StreamID are the two fields of encoders that ask for them apart.
	Server, StreamID string
	// URL is the address in one piece, for OBS, ffmpeg and their like. A shell
	// wants it in quotes. It is read alike whether the client decodes the
	// stream id or sends it as it is.
	URL string
}

// SRTPaste builds the addresses that SRT reads back as r: Stream, Index,
// ServerIndex, Partner and Token of r are used. host is a host name or address
// with a port.
func (g Grammar) SRTPaste(host string, r Request) SRTPaste {
	var id strings.Builder
	id.WriteString(accessPrefix + "r=" + r.Name() + ",m=publish")
	if r.Partner != 0 {
		id.WriteString(",u=" + strconv.Itoa(r.Partner))
	}
	if r.ServerIndex != 0 {
		id.WriteString(",index=" + strconv.Itoa(r.ServerIndex))
	}
	id.WriteString(",token=")
	escape(&id, r.Token)
	p := SRTPaste{Server: "srt://" + host, StreamID: id.String()}
	var url strings.Builder
	url.WriteString(p.Server + "?mode=caller&streamid=")
	escape(&url, p.StreamID)
	p.URL = url.String()
	return p
}

// The passphrases that SRT takes (libsrt SRTO_PASSPHRASE), in bytes.
const (
	MinPassphrase = 10
	MaxPassphrase = 79
)

// Unseal opens a passphrase that a Kaltura backend sealed into a stream id:
// AES-256-CBC with PKCS #7 padding in base64url without "=". key is filled up
// with zeros to 32 bytes, vector to 16; what is longer is cut off. They are
// the backend's live_security_key and stream_id_security_key. Errors are
// *fault.Error with BadAddress and hold nothing of the passphrase.
func Unseal(sealed, key, vector string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(sealed, "="))
	if err != nil || len(b) == 0 || len(b)%aes.BlockSize != 0 || len(b) > MaxStreamID {
		return "", fault.New(fault.BadAddress, "the encrypted passphrase (ep) of the stream id cannot be read; copy the address again").With("argument", "ep")
	}
	var k [32]byte
	var iv [aes.BlockSize]byte
	copy(k[:], key)
	copy(iv[:], vector)
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return "", fault.From(err)
	}
	cipher.NewCBCDecrypter(block, iv[:]).CryptBlocks(b, b)
	plain, ok := unpad(b)
	if !ok || len(plain) < MinPassphrase || len(plain) > MaxPassphrase || !printable(string(plain)) {
		return "", fault.New(fault.BadAddress,
			"the encrypted passphrase (ep) of the stream id was made with other keys; copy the address again, or set the backend's keys in this server").With("argument", "ep")
	}
	return string(plain), nil
}

// unpad takes PKCS #7 padding off.
func unpad(b []byte) ([]byte, bool) {
	n := int(b[len(b)-1])
	if n < 1 || n > aes.BlockSize || n > len(b) {
		return nil, false
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, false
		}
	}
	return b[:len(b)-n], true
}
