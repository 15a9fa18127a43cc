package config

// The lengths of a passphrase that SRT takes, in bytes.
const (
	shortestPassphrase = 10
	longestPassphrase  = 79
)

// passphrase holds a passphrase of SRT to its rules; it may be missing.
func (v *checker) passphrase(path string, s Secret) {
	switch text := s.Reveal(); {
	case text == "":
	case text == mask:
		v.fail(path, "is the mask that a printed configuration shows, not a passphrase; set the passphrase itself")
	case len(text) < shortestPassphrase || len(text) > longestPassphrase:
		v.fail(path, "must have %d to %d bytes, or be empty for none", shortestPassphrase, longestPassphrase)
	case !printableText.MatchString(text):
		v.fail(path, "may hold only printable characters")
	}
}
