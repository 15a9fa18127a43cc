// Package store keeps durable records on a NATS JetStream that runs inside the process, without an
// open port.
//
// A Store holds named Buckets (records by key, with revisions and a watch) and named Journals (bounded
// append-only logs). Every write is on the disk, fsynced, before it is acknowledged: an acknowledged
// record survives kill -9 and a power cut. Read Store first, then Bucket.
//
// A Store and everything made from it may be used by many goroutines at once.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/klive-media/klive/internal/fault"
)

// Errors of records, for errors.Is. What the store itself cannot do at the moment (a full disk, a
// store that was closed) is a *fault.Error with reason STORE_UNAVAILABLE instead.
var (
	ErrNotFound   = errors.New("store: no such record")
	ErrExists     = errors.New("store: the record exists already")
	ErrConflict   = errors.New("store: the record was changed by another writer")
	ErrInvalidKey = errors.New("store: the key may hold only letters, digits, _ and -, at most 128")
	ErrTooLarge   = errors.New("store: the value is too large")
	ErrInUse      = errors.New("store: the data directory is used by another process")
)

// MaxValue is the largest value of a record and the largest entry of a journal, in bytes.
const MaxValue = 512 << 10

// Defaults of Options.
const (
	DefaultMaxMemory = 16 << 20 // bookkeeping of watches; records are never in memory only
	DefaultMaxDisk   = 1 << 30
)

const (
	startTimeout = 10 * time.Second // from starting the server to its first answer
	maxPayload   = 1 << 20          // of a message: MaxValue and its headers
	dirMode      = 0o700            // stream tokens are inside
)

// Options says how a Store is opened.
type Options struct {
	Dir       string       // directory of this store alone, such as <data_dir>/store; made when missing
	Logger    *slog.Logger // nil: nothing is logged
	MaxMemory int64        // bytes; 0: DefaultMaxMemory
	MaxDisk   int64        // bytes all records may take on the disk; 0: DefaultMaxDisk
}

// Store is an open store. Close it once, after everything that uses it has ended.
type Store struct {
	dir  string
	log  *slog.Logger
	lock *os.File // holds the flock on dir for the life of the Store
	srv  *server.Server
	conn *nats.Conn
	js   jetstream.JetStream
}

// Open opens the store in o.Dir and recovers what a crash may have left half written. It fails with
// ErrInUse when another process has it open. Canceling ctx gives up opening; it has no effect later.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: no directory given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: find %s: %w", o.Dir, err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("open store: make directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, log: o.Logger, lock: lock}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.start(ctx, o); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) start(ctx context.Context, o Options) error {
	if o.MaxMemory == 0 {
		o.MaxMemory = DefaultMaxMemory
	}
	if o.MaxDisk == 0 {
		o.MaxDisk = DefaultMaxDisk
	}
	name := "klive-" + nuid.Next()
	srv, err := server.NewServer(&server.Options{
		ServerName:             name,
		DontListen:             true,
		JetStream:              true,
		StoreDir:               s.dir,
		JetStreamMaxMemory:     o.MaxMemory,
		JetStreamMaxStore:      o.MaxDisk,
		SyncAlways:             true, // an acknowledged record survives a power cut
		MaxPayload:             maxPayload,
		NoSigs:                 true, // signals belong to the program
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return fmt.Errorf("configure JetStream: %w", err)
	}
	s.srv = srv
	srv.SetLoggerV2(natsLogger{log: s.log}, s.log.Enabled(ctx, slog.LevelDebug), false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		return errors.New("JetStream did not start in time; is the disk full or read-only?")
	}
	if !srv.JetStreamEnabled() {
		return errors.New("JetStream did not start; the log says why")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s.conn, err = nats.Connect("", nats.InProcessServer(srv), nats.Name(name), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.log.Warn("store connection reported an error", "error", err)
		}))
	if err != nil {
		return fmt.Errorf("connect to JetStream: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	return nil
}

// Close ends the store and waits until everything is written and the directory is free for another
// process. It is safe to call it more than once from one goroutine.
func (s *Store) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.srv != nil {
		s.srv.Shutdown()
		s.srv.WaitForShutdown()
	}
	if s.lock != nil {
		if err := s.lock.Close(); err != nil { // also gives the lock back
			s.log.Warn("store lock could not be released", "dir", s.dir, "error", err)
		}
		s.lock = nil
	}
}

// Check reports whether the store answers; it is meant for a readiness check.
func (s *Store) Check(ctx context.Context) error {
	if _, err := s.js.AccountInfo(ctx); err != nil {
		return unavailable("ask the store for its state", err)
	}
	return nil
}

// unavailable wraps an error of the store itself.
func unavailable(doing string, err error) error {
	return fault.New(fault.StoreUnavailable, "the server cannot reach its records; its log says why").
		Because(fmt.Errorf("%s: %w", doing, err))
}

// natsLogger writes the server's log lines to slog. Its notices are of interest only when looking
// for a fault.
type natsLogger struct{ log *slog.Logger }

var _ server.Logger = natsLogger{}

func (l natsLogger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l natsLogger) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l natsLogger) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l natsLogger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l natsLogger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l natsLogger) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }

func (l natsLogger) write(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "store: "+fmt.Sprintf(format, v...))
	}
}
