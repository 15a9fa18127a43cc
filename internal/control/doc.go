// Package control serves the control API: klive.v1 over gRPC, the same as REST
// under /v1/ through a gateway, watches as NDJSON or Server-Sent Events, and
// the small pages of the control HTTP listener.
//
// Server is the type to read first. It holds two gRPC servers with the same
// services: one outside on the gRPC listener, one inside that only the gateway
// can reach, so that a call over REST passes the same interceptors as one over
// gRPC. The services turn messages into calls of the interfaces of package
// stream (Entries, Live, Journal, Recordings, Deliveries, Bridge) and know
// nothing else.
//
// Rules that hold everywhere: lists have pages and a stable order; errors
// carry google.rpc.ErrorInfo with a reason of package fault; a watch is a
// snapshot, a bookmark, then changes; tokens are shown by three calls only.
package control
