package ingest

import "strings"

// ValidPassphrase reports whether SRT takes a text for a passphrase:
// MinPassphrase to MaxPassphrase bytes, here of printable text in UTF-8.
func ValidPassphrase(s string) bool {
	return len(s) >= MinPassphrase && len(s) <= MaxPassphrase && printable(s)
}

// inQuery are the characters beside letters and digits that stand for
// themselves in the query of a URL (RFC 3986, section 3.4). "&", ";" and "+"
// have a meaning there, and "$" and "'" one in a shell's quotes.
const inQuery = "-._~!()*,=:@/?"

// Encrypted adds the passphrase to the URL, for clients that read it there;
// others have a field of their own for it. The key's length is left to the
// client. "" adds nothing.
//
// What cannot stand in a URL is percent-encoded, as it ought to be. ffmpeg and
// what is built on it do not decode a passphrase, so with such a one they want
// it as an option of its own.
func (p SRTPaste) Encrypted(passphrase string) SRTPaste {
	if passphrase == "" {
		return p
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString(p.URL)
	b.WriteString("&passphrase=")
	for i := range len(passphrase) {
		c := passphrase[i]
		if isAlphanumeric(c) || strings.IndexByte(inQuery, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	p.URL = b.String()
	return p
}
