// Package stream is what is on air: streams, their broadcasts and the sessions
// that feed them.
//
// Words: a stream is a live entry, known to an Authority. A broadcast is one
// event of a stream at one server index; it spans the sessions of its
// publishers and outlives their reconnects. A session is one publisher's
// connection from being let in to its end; the dead stay dead, a reconnect is
// a new session.
//
// Registry is the type to read first: it is the ingest.Gate of every door, and
// what the control API lists and watches. The lifecycle is one table, state.go.
package stream
