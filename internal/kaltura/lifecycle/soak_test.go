//go:build !race

package lifecycle

// How much is tried. The race detector makes every call ten times as dear and
// needs fewer of them.
const (
	soakMinutes = 60 // of virtual time
	fates       = 30
)
