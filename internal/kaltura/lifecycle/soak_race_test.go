//go:build race

package lifecycle

const (
	soakMinutes = 5
	fates       = 5
)
