package node_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/kaltura/node"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = ks.Secret("house-of-secrets")
	house  = 102
	host   = "ms1.example.com"
)

// direct carries requests to a handler without a network, so that virtual time
// works.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

// journal counts events.
type journal struct {
	stream.Journal

	mu    sync.Mutex // guards count
	count int
}

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Type == stream.NodeRegistered {
		j.count++
	}
}

func (j *journal) events() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.count
}

// lines is a log that counts its lines.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), "\n")
}

// world is a backend and a node.
type world struct {
	*kalturatest.Backend
	t       *testing.T
	partner int // ours
	node    *node.Node
	journal journal
	log     lines
	halt    func()
}

func newWorld(t *testing.T, report string, change func(*kalturatest.Options), faults ...kalturatest.Fault) *world {
	t.Helper()
	return newWorldOf(t, kalturatest.MediaServerPartner, report, change, faults...)
}

func newWorldOf(t *testing.T, partner int, report string, change func(*kalturatest.Options), faults ...kalturatest.Fault) *world {
	t.Helper()
	o := kalturatest.Options{Partners: []kalturatest.Partner{
		{ID: kalturatest.MediaServerPartner, Secret: secret},
		{ID: house, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureServerNode}},
	}}
	if change != nil {
		change(&o)
	}
	b, err := kalturatest.New(o)
	require.NoError(t, err)
	for _, f := range faults {
		_, err := b.Inject(f)
		require.NoError(t, err)
	}
	w := &world{Backend: b, t: t, partner: partner}
	w.start(report)
	return w
}

// start starts the server, again when it was halted.
func (w *world) start(report string) {
	w.node = node.New(node.Options{Client: w.client(), Host: host, Application: "kLive", Type: "KalturaWowzaMediaServerNode", Report: report,
		Journal: &w.journal, Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.node.Run(ctx) }()
	w.halt = func() {
		cancel()
		require.ErrorIs(w.t, <-done, context.Canceled)
	}
	synctest.Wait()
}

func (w *world) client() *client.Client {
	w.t.Helper()
	c, err := client.New(client.Options{URL: "http://backend.example.com", Partner: w.partner, Secret: secret, Transport: direct{w.Backend}})
	require.NoError(w.t, err)
	return c
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func (w *world) inject(f kalturatest.Fault) func() {
	w.t.Helper()
	id, err := w.Inject(f)
	require.NoError(w.t, err)
	return func() { w.ClearFaults(id) }
}

func ours(status int) func(*kalturatest.Options) {
	return func(o *kalturatest.Options) {
		o.Nodes = []kalturatest.Node{{Partner: kalturatest.MediaServerPartner, Name: host, HostName: host, Status: status}}
	}
}

func TestMadeEnabledAndAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, nil)
		defer w.halt()
		<-w.node.Known()
		for range 60 { // never longer than the backend believes
			w.pass(30 * time.Second)
			n := w.State().Nodes[0]
			require.Equal(t, kalturatest.NodeActive, n.Status)
			require.Less(t, time.Since(n.Heartbeat), 60*time.Second)
			require.Equal(t, int64(n.ID), w.node.ID())
		}
		s := w.node.Status()
		require.True(t, s.Registered)
		require.Empty(t, s.Error)
		require.Less(t, time.Since(s.LastReport), time.Minute)
		require.Zero(t, w.State().Count("serverNode.add"), "the first report makes the node")
		require.Zero(t, w.State().Count("serverNode.enable"), "and enables it")
		require.Equal(t, 1, w.State().Count("serverNode.list"))
		require.Equal(t, 1, w.journal.events())
		require.Equal(t, 1, w.log.count())
	})
}

func keepStatus(o *kalturatest.Options) { o.KeepNodeStatus = true }

// A backend that lets nobody but its operators enable nodes makes no difference
// to a server that reports, neither at its first start nor at the next.
func TestEnableIsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, keepStatus)
		require.True(t, w.node.Status().Registered)
		w.halt()
		w.start(node.ReportServerNode)
		defer w.halt()
		w.pass(time.Minute)
		require.True(t, w.node.Status().Registered)
		require.Len(t, w.State().Nodes, 1)
		require.Equal(t, kalturatest.NodeActive, w.State().Nodes[0].Status)
		require.Zero(t, w.State().Count("serverNode.enable"))
	})
}

// Without reports there it is up to an operator, who is told.
func TestEnableIsForbiddenAndNothingReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportNone, keepStatus)
		defer w.halt()
		w.pass(time.Minute)
		require.False(t, w.node.Status().Registered)
		require.Contains(t, w.node.Status().Error, "enable it there")
		require.Contains(t, w.node.Status().Error, "SERVICE_FORBIDDEN")
		require.Len(t, w.State().Nodes, 1)
		require.Zero(t, w.State().Count("serverNode.reportStatus"))
		require.Equal(t, 1, w.log.count())
	})
}

func TestExistingNodeIsLeftAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, ours(kalturatest.NodeActive))
		defer w.halt()
		w.pass(time.Minute)
		require.True(t, w.node.Status().Registered)
		require.Zero(t, w.State().Count("serverNode.add"))
		require.Zero(t, w.State().Count("serverNode.enable"))
	})
}

func TestDisabledNodeStaysDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, ours(kalturatest.NodeDisabled))
		defer w.halt()
		w.pass(10 * time.Minute)
		require.Equal(t, kalturatest.NodeDisabled, w.State().Nodes[0].Status)
		s := w.node.Status()
		require.False(t, s.Registered)
		require.Contains(t, s.Error, "disabled")
		require.NotZero(t, s.ID, "which one it is, is known")
		require.Equal(t, 1, w.log.count(), "a line for each change, not for each try")
		require.Zero(t, w.journal.events())
		require.Less(t, w.State().Count("serverNode.list"), 10*60/15+8)

		operate(t, w, "enable")
		w.pass(31 * time.Second)
		require.True(t, w.node.Status().Registered)
		require.Equal(t, 2, w.log.count())

		operate(t, w, "disable")
		w.pass(2 * time.Minute)
		require.Contains(t, w.node.Status().Error, "disabled")
		require.Equal(t, kalturatest.NodeDisabled, w.State().Nodes[0].Status, "also a node that was ours to enable")
	})
}

// operate is an operator of the backend.
func operate(t *testing.T, w *world, action string) {
	t.Helper()
	require.NoError(t, w.client().Do(t.Context(), client.Call{Service: "serverNode", Action: action, Params: client.Params{"serverNodeId": w.State().Nodes[0].ID}}, nil))
}

// A node that we made and could not enable is ours to enable.
func TestEnableFails(t *testing.T) {
	for name, f := range map[string]kalturatest.Fault{
		"nothing else fails":    {Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN", Action: "nothing"},
		"enable refused":        {Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN", Action: "enable", Times: 2},
		"answer of add lost":    {Kind: kalturatest.Lost, Action: "add", Times: 1},
		"answer of list, lost":  {Kind: kalturatest.Lost, Action: "list", Times: 7},
		"answer of report lost": {Kind: kalturatest.Lost, Action: "reportStatus", Times: 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, node.ReportServerNode, nil, f,
					kalturatest.Fault{Kind: kalturatest.Code, Code: "SERVICE_FORBIDDEN", Action: "reportStatus", Times: 1})
				defer w.halt()
				w.pass(time.Minute)
				require.Equal(t, kalturatest.NodeActive, w.State().Nodes[0].Status)
				require.True(t, w.node.Status().Registered)
				require.Len(t, w.State().Nodes, 1)
			})
		})
	}
}

func TestStartWithoutTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, nil, kalturatest.Fault{Kind: kalturatest.Down})
		defer w.halt()
		w.pass(10 * time.Minute)
		require.Zero(t, w.node.ID())
		require.False(t, w.node.Status().Registered)
		require.Contains(t, w.node.Status().Error, "no answer")
		require.Equal(t, 1, w.log.count())
		w.ClearFaults(0)
		back := time.Now()
		<-w.node.Known()
		require.Less(t, time.Since(back), 65*time.Second, "our pause and the breaker's")
		w.pass(time.Second)
		require.True(t, w.node.Status().Registered)
		require.Equal(t, 1, w.journal.events())
	})
}

// A short outage is no news; a long one lets the backend take us for lost.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, nil)
		defer w.halt()
		w.pass(time.Minute)
		mend := w.inject(kalturatest.Fault{Kind: kalturatest.Status})
		w.pass(time.Minute)
		require.True(t, w.node.Status().Registered)
		w.pass(90 * time.Second)
		require.False(t, w.node.Status().Registered)
		mend()
		w.node.Resync()
		w.pass(time.Minute)
		require.True(t, w.node.Status().Registered)
		require.Equal(t, 2, w.journal.events())
		require.Equal(t, 3, w.log.count())
	})
}

func TestResyncLooksForTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, ours(kalturatest.NodeActive))
		defer w.halt()
		w.pass(time.Second)
		lists := w.State().Count("serverNode.list")
		w.node.Resync()
		synctest.Wait()
		require.Equal(t, lists+1, w.State().Count("serverNode.list"))
		require.Equal(t, 1, w.journal.events(), "still the same")
	})
}

func TestReportOfOldBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportMediaServer, func(o *kalturatest.Options) { o.Legacy = true })
		defer w.halt()
		require.True(t, w.node.Status().Registered)
		require.NotZero(t, w.node.ID())
		w.pass(20*time.Minute + time.Second)
		require.Equal(t, 5, w.State().Count("mediaServer.reportStatus"))
		require.Zero(t, w.State().Count("serverNode.list"))
		require.Zero(t, w.State().Calls[0].Partner+5, "in our own name")
	})
}

func TestNewBackendAskedInTheOldWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportMediaServer, nil)
		defer w.halt()
		w.pass(5 * time.Minute)
		require.Contains(t, w.node.Status().Error, "SERVICE_DOES_NOT_EXISTS")
		require.Equal(t, 1, w.log.count())
	})
}

func TestNoReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportNone, nil)
		defer w.halt()
		w.pass(30 * time.Minute)
		require.Zero(t, w.State().Count("serverNode.reportStatus"))
		require.True(t, w.State().Nodes[0].Heartbeat.IsZero(), "such a node counts as alive")
		require.Equal(t, kalturatest.NodeActive, w.State().Nodes[0].Status)
		require.InDelta(t, 11, w.State().Count("serverNode.list"), 1)
		require.True(t, w.node.Status().Registered)
	})
}

// The host name belongs to a node of a partner that we do not see: it exists,
// and the backend decides whether it takes reports of it.
func TestHostOfAnother(t *testing.T) {
	for name, c := range map[string]struct {
		report string
		status int
		taken  bool
	}{
		"active":       {node.ReportServerNode, kalturatest.NodeActive, true},
		"disabled":     {node.ReportServerNode, kalturatest.NodeDisabled, false},
		"not reported": {node.ReportNone, kalturatest.NodeActive, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, house, c.report, ours(c.status))
				defer w.halt()
				w.pass(time.Minute)
				require.Equal(t, c.taken, w.node.Status().Registered)
				require.Len(t, w.State().Nodes, 1)
				require.Equal(t, 1, w.log.count())
				if !c.taken {
					require.Contains(t, w.node.Status().Error, "kaltura.hostname")
					require.Contains(t, w.node.Status().Error, "or written in another case")
					reports := w.State().Count("serverNode.reportStatus")
					w.pass(time.Minute)
					require.Greater(t, w.State().Count("serverNode.reportStatus"), reports, "it goes on")
				}
			})
		})
	}
}

// The node is there in another case, which a backend need not tell apart.
func TestHostInAnotherCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := func(o *kalturatest.Options) {
			ours(kalturatest.NodeActive)(o)
			o.Nodes[0].HostName = strings.ToUpper(host)
		}
		w := newWorld(t, node.ReportServerNode, other)
		defer w.halt()
		w.pass(time.Minute)
		require.Contains(t, w.node.Status().Error, "or written in another case")
		require.NotZero(t, w.node.ID())
		require.Len(t, w.State().Nodes, 1)
		require.Zero(t, w.State().Count("serverNode.add"), "it exists")

		reports := w.State().Count("serverNode.reportStatus")
		w.pass(time.Minute)
		require.Greater(t, w.State().Count("serverNode.reportStatus"), reports, "it goes on")
	})
}

// The backend looks for the node of a report among those of the reported type.
func TestANodeOfAnotherType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node.ReportServerNode, ours(kalturatest.NodeActive), kalturatest.Fault{Kind: kalturatest.Code, Code: "HOST_NAME_ALREADY_EXISTS", Action: "reportStatus"})
		defer w.halt()
		w.pass(time.Minute)
		require.Contains(t, w.node.Status().Error, "kaltura.node_type")
	})
}
