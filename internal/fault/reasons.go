package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:generate go test -run TestReference -count=1 . -update

// Reason is a stable upper-case word that programs may compare. Reasons are
// never renamed; the table below generates their documentation.
type Reason string

// The reasons. Each has one row in the table.
const (
	// Publishing.
	UnknownApplication Reason = "UNKNOWN_APPLICATION"
	MissingArgument    Reason = "MISSING_ARGUMENT"
	BadAddress         Reason = "BAD_ADDRESS"
	BadStreamName      Reason = "BAD_STREAM_NAME"
	StreamNotFound     Reason = "STREAM_NOT_FOUND"
	BadToken           Reason = "BAD_TOKEN"
	BadPassphrase      Reason = "BAD_PASSPHRASE"
	WrongPartner       Reason = "WRONG_PARTNER"
	TooManyAttempts    Reason = "TOO_MANY_ATTEMPTS"
	StreamBusy         Reason = "STREAM_BUSY"
	StreamStopped      Reason = "STREAM_STOPPED"
	TooManyStreams     Reason = "TOO_MANY_STREAMS"
	UnsupportedCodec   Reason = "UNSUPPORTED_CODEC"
	UnsupportedLayout  Reason = "UNSUPPORTED_LAYOUT"
	BadMedia           Reason = "BAD_MEDIA"
	NoMedia            Reason = "NO_MEDIA"
	ProtocolError      Reason = "PROTOCOL_ERROR"
	LimitExceeded      Reason = "LIMIT_EXCEEDED"

	// Publishing behind a backend.
	BackendUnavailable Reason = "BACKEND_UNAVAILABLE"
	BackendRefused     Reason = "BACKEND_REFUSED"
	QuotaExceeded      Reason = "QUOTA_EXCEEDED"
	PartnerBlocked     Reason = "PARTNER_BLOCKED"
	OnAirElsewhere     Reason = "ON_AIR_ELSEWHERE"
	NodeNotRegistered  Reason = "NODE_NOT_REGISTERED"
	NotInProfile       Reason = "INGEST_NOT_IN_PROFILE"

	// Ends of a session that was on air.
	Unpublished       Reason = "UNPUBLISHED"
	ConnectionLost    Reason = "CONNECTION_LOST"
	Superseded        Reason = "SUPERSEDED"
	Idle              Reason = "IDLE"
	StoppedByOperator Reason = "STOPPED_BY_OPERATOR"
	StreamDeleted     Reason = "STREAM_DELETED"
	ServerDraining    Reason = "SERVER_DRAINING"
	// End of a broadcast that waited for a publisher.
	ReconnectWindowOver Reason = "RECONNECT_WINDOW_OVER"

	// Watching.
	TooManyViewers Reason = "TOO_MANY_VIEWERS"
	NotPlayable    Reason = "NOT_PLAYABLE"
	ReaderTooSlow  Reason = "READER_TOO_SLOW"
	PreviewOnly    Reason = "PREVIEW_ONLY"

	// Recording.
	RecordingNotFound Reason = "RECORDING_NOT_FOUND"
	NotRecording      Reason = "NOT_RECORDING"
	NothingToDeliver  Reason = "NOTHING_TO_DELIVER"
	BridgeOff         Reason = "BRIDGE_OFF"

	// Control.
	AlreadyExistsReason Reason = "ALREADY_EXISTS"
	InvalidField        Reason = "INVALID_FIELD"
	EtagMismatch        Reason = "ETAG_MISMATCH"
	ManagedByConfig     Reason = "MANAGED_BY_CONFIGURATION"
	ManagedByKaltura    Reason = "MANAGED_BY_KALTURA"
	SessionNotFound     Reason = "SESSION_NOT_FOUND"
	WatchLost           Reason = "WATCH_LOST"
	NotAuthenticated    Reason = "NOT_AUTHENTICATED"
	NotAllowed          Reason = "NOT_ALLOWED"
	UnknownMethod       Reason = "UNKNOWN_METHOD"
	CallTimedOut        Reason = "CALL_TIMED_OUT"
	CallCancelled       Reason = "CALL_CANCELLED"
	ForeignOrigin       Reason = "FOREIGN_ORIGIN"
	StoreUnavailable    Reason = "STORE_UNAVAILABLE"
	InternalError       Reason = "INTERNAL"
)

// Row is what the table knows of a reason.
type Row struct {
	Code Code
	Doc  string // one sentence for the reference page
}

var table = map[Reason]Row{
	UnknownApplication: {NotFound, "The RTMP application in the address is not the one this server serves."},
	MissingArgument:    {InvalidArgument, "An argument the broadcast address needs is missing; the message names it."},
	BadAddress:         {InvalidArgument, "The broadcast address cannot be read; the message says which part."},
	BadStreamName:      {InvalidArgument, "The stream name is not <id>_<index>, or does not fit the entry of the address."},
	StreamNotFound:     {NotFound, "No stream with this id is known."},
	BadToken:           {Unauthenticated, "The token is not the stream's."},
	BadPassphrase:      {Unauthenticated, "The encoder encrypts with another passphrase than the stream's, or not at all where it must, or though the stream has none."},
	WrongPartner:       {PermissionDenied, "The partner in the address is not the stream's."},
	TooManyAttempts:    {ResourceExhausted, "Too many wrong tokens for this stream, or unknown streams, from this address; try later."},
	StreamBusy:         {AlreadyExists, "Another encoder is publishing this stream name and is alive."},
	StreamStopped:      {FailedPrecondition, "An operator stopped the stream; it may return when the reconnect window is over."},
	TooManyStreams:     {ResourceExhausted, "The server carries as many streams as it is allowed to."},
	UnsupportedCodec:   {InvalidArgument, "The codec cannot be carried by this server."},
	UnsupportedLayout:  {InvalidArgument, "The tracks of the publication cannot be carried together."},
	BadMedia:           {InvalidArgument, "The media cannot be read."},
	NoMedia:            {DeadlineExceeded, "The publisher was let in but sent no media."},
	ProtocolError:      {InvalidArgument, "The peer broke the protocol."},
	LimitExceeded:      {ResourceExhausted, "The peer passed a limit of the server; the message names it."},

	BackendUnavailable: {Unavailable, "The backend that decides about publishers does not answer; a new broadcast has to wait for it."},
	BackendRefused:     {FailedPrecondition, "The backend refused; the message says what it said."},
	QuotaExceeded:      {ResourceExhausted, "The account has as many live streams on air as it may."},
	PartnerBlocked:     {PermissionDenied, "The account of the stream is blocked."},
	OnAirElsewhere:     {AlreadyExists, "The entry is on air at another server of another environment."},
	NodeNotRegistered:  {FailedPrecondition, "The backend does not know this server under its host name, or it is disabled there."},
	NotInProfile:       {InvalidArgument, "The entry's conversion profile has no ingest with this index."},

	Unpublished:       {Unknown, "The publisher ended the publication in good order."},
	ConnectionLost:    {Unavailable, "The connection broke without a goodbye."},
	Superseded:        {Aborted, "The publisher was silent and a newcomer with a valid token took its place."},
	Idle:              {DeadlineExceeded, "No media arrived for limits.idle_timeout."},
	StoppedByOperator: {Aborted, "The stream or session was stopped through the control API."},
	StreamDeleted:     {Aborted, "The stream was deleted while it was on air."},
	ServerDraining:    {Unavailable, "The server is shutting down and takes no new work."},

	ReconnectWindowOver: {Unknown, "The broadcast ended because no publisher came back within limits.reconnect_window."},

	TooManyViewers: {ResourceExhausted, "The server serves as many viewers as it is allowed to."},
	NotPlayable:    {NotFound, "The stream has nothing to play now."},
	ReaderTooSlow:  {ResourceExhausted, "The reader could not keep up and was disconnected."},
	PreviewOnly:    {PermissionDenied, "The stream is in preview: it is shown to callers with a viewer or admin credential only."},

	RecordingNotFound: {NotFound, "No recording with this id is known."},
	NotRecording:      {FailedPrecondition, "Nothing is being recorded of the stream now."},
	NothingToDeliver:  {FailedPrecondition, "No piece of the recording waits to be delivered again, or to be accepted."},
	BridgeOff:         {FailedPrecondition, "No Kaltura backend is configured."},

	AlreadyExistsReason: {AlreadyExists, "A resource with this name exists."},
	InvalidField:        {InvalidArgument, "A field of the request is wrong; metadata names it."},
	EtagMismatch:        {Aborted, "The resource changed since it was read; read it again."},
	ManagedByConfig:     {FailedPrecondition, "The stream is declared in the configuration and is changed there."},
	ManagedByKaltura:    {FailedPrecondition, "The stream is managed by the Kaltura backend."},
	SessionNotFound:     {NotFound, "No session with this id is known."},
	WatchLost:           {Aborted, "The watcher fell behind or its resume token is too old; list again."},
	NotAuthenticated:    {Unauthenticated, "The call carries no valid credential."},
	NotAllowed:          {PermissionDenied, "The caller's role does not allow the call."},
	UnknownMethod:       {NotFound, "The API has no such method or path."},
	CallTimedOut:        {DeadlineExceeded, "The call took longer than its deadline."},
	CallCancelled:       {Unknown, "The caller gave the call up."},
	ForeignOrigin:       {PermissionDenied, "The request comes from a web page or host name the control listener does not answer."},
	StoreUnavailable:    {Unavailable, "The durable store did not answer; try again."},
	InternalError:       {Internal, "The server met an error of its own."},
}

// Code is the class the table gives the reason; Internal for unknown reasons.
func (r Reason) Code() Code {
	if row, ok := table[r]; ok {
		return row.Code
	}
	return Internal
}

// Doc is the reason's sentence in the reference; "" for unknown reasons.
func (r Reason) Doc() string { return table[r].Doc }

// Reasons lists every reason in alphabetical order.
func Reasons() []Reason { return slices.Sorted(maps.Keys(table)) }

// Reference is the page docs/reasons.md, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Reasons

Every refusal and every end carries a reason: in ` + "`google.rpc.ErrorInfo`" + ` of the control API (domain ` + "`klive.media`" + `), in
sessions and events, in metrics, and in the server's log. Programs compare the reason, people read the sentence beside
it. Reasons are never renamed; new ones may come.

The class is the gRPC code that a call gets; the ends of sessions and broadcasts that are no errors have none.

This page is generated from ` + "`internal/fault`" + `: run ` + "`go generate ./internal/fault`" + `.

| reason | class | it means |
|---|---|---|
`)
	for _, r := range Reasons() {
		class := ""
		if code := r.Code(); code != Unknown {
			class = "`" + strings.ToUpper(strings.ReplaceAll(code.String(), " ", "_")) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r, class, strings.NewReplacer("<", "&lt;", "|", "\\|").Replace(r.Doc()))
	}
	return b.String()
}
