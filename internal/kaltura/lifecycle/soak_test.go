//go:build !race

package lifecycle

// soakMinutes of virtual time; the race detector makes every call ten times as
// dear and needs fewer of them.
const soakMinutes = 60
