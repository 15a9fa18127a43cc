package srt

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	wire "github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/internal/srt/srttest"
)

// send writes messages, which must be taken.
func send(t testing.TB, c *srttest.Caller, list [][]byte) {
	t.Helper()
	for _, b := range list {
		_, err := c.Write(b)
		require.NoError(t, err)
	}
}

func TestPublish(t *testing.T) {
	d := open(t, tokenGate(), nil)
	c := d.call(t, srttest.Options{Latency: 80 * time.Millisecond})
	send(t, c, messages(t, 10, 1))
	p := await(t, d.gate.opened, "publication")
	require.Equal(t, "lobby_1", p.request.Name())
	require.Equal(t, "srt", p.request.Protocol)
	require.Regexp(t, `^SRT \d+\.\d+\.\d+$`, p.request.Encoder)
	require.Equal(t, "127.0.0.1", p.request.Remote.Addr().String())
	packets := p.wait(t, 29) // the last picture is whole only with the next, or with the end
	require.Len(t, p.announced[len(p.announced)-1], 2)
	require.Equal(t, media.Video, p.announced[0][0].Kind)
	require.False(t, packets[0].Captured.IsZero())
	require.EqualValues(t, 1, d.stats.Publications.Load())
	require.Len(t, d.stats.Links(), 1)
	require.Equal(t, "lobby", d.stats.Links()[0].Stream)
	require.False(t, p.request.Counters.Link.Encrypted.Load())

	c.Close()
	await(t, p.closed, "end")
	require.Equal(t, fault.Unpublished, fault.ReasonOf(p.ended()), "a goodbye is no loss")
	require.Len(t, p.written(), 30)
	link := &p.request.Counters.Link
	require.NotZero(t, p.request.Counters.BytesIn.Load())
	require.Zero(t, p.request.Counters.BadMessages.Load())
	require.LessOrEqual(t, link.Discontinuities.Load(), uint64(0))
}

func TestStatistics(t *testing.T) {
	d := open(t, tokenGate(), nil)
	c := d.call(t, srttest.Options{Latency: 80 * time.Millisecond})
	send(t, c, messages(t, 5, 1))
	p := await(t, d.gate.opened, "publication")
	p.wait(t, 10)
	link := &p.request.Counters.Link
	require.Eventually(t, func() bool { return link.Packets.Load() > 0 }, patience, 20*time.Millisecond, "they are taken each second")
	require.Equal(t, 80*time.Millisecond, time.Duration(link.Latency.Load()), "the caller asks for more than the server")
	require.NotZero(t, link.RTT.Load())
	require.Eventually(t, func() bool { return d.stats.Packets.Load() > 0 }, patience, time.Millisecond, "the door counts them a moment later")
}

func TestEncryption(t *testing.T) {
	const pass = "correct horse battery"
	d := open(t, tokenGate(), func(o *Options) { o.ServerPassphrase = pass })
	for _, length := range []int{0, 16, 24, 32} {
		t.Run(fmt.Sprint(8*length, " bits"), func(t *testing.T) {
			c := d.call(t, srttest.Options{Passphrase: pass, KeyLength: length})
			send(t, c, messages(t, 10, 1))
			p := await(t, d.gate.opened, "publication")
			p.wait(t, 20)
			require.True(t, p.request.Counters.Link.Encrypted.Load())
			c.Close()
			await(t, p.closed, "end")
		})
	}
	for about, c := range map[string]struct {
		passphrase string
		code       int
	}{
		"wrong passphrase": {"correct horse cattery", wire.CodeBadSecret},
		"no passphrase":    {"", wire.CodeUnsecure},
	} {
		t.Run(about, func(t *testing.T) {
			_, err := d.dial(srttest.Options{Passphrase: c.passphrase})
			requireCode(t, c.code, err)
		})
	}
	require.Empty(t, d.gate.opened, "who has not the passphrase never reaches the gate")
}

func TestPassphraseOfTheStream(t *testing.T) {
	const own, server, sealed = "of the stream", "of the server", "DTBXaGMrEvtHaJ0e9XKRMT9ownkb_G-dq8dm2HHsT60"
	d := open(t, newGate(), func(o *Options) {
		o.Grammar = ingest.KalturaGrammar("kLive")
		o.ServerPassphrase, o.SealKey = server, "klive"
		o.Passphrase = func(_ context.Context, r ingest.Request) (string, error) {
			if r.Stream != "0_rkij47dr" {
				return "", nil
			}
			return own, nil
		}
	})
	const (
		withOwn    = "#:::e=0_rkij47dr,st=0,p=s3cret"
		without    = "#:::e=0_abcdefgh,st=0,p=s3cret"
		withSealed = "#:::e=0_rkij47dr,st=0,ep=" + sealed
	)
	for _, c := range []struct {
		id, passphrase string
		code           int
	}{
		{withOwn, own, 0}, {withOwn, server, wire.CodeBadSecret}, {withOwn, "", wire.CodeUnsecure},
		{without, server, 0}, {without, own, wire.CodeBadSecret}, {without, "", wire.CodeUnsecure},
		{withSealed, "mySrtPassphrase1", 0}, {withSealed, own, wire.CodeBadSecret}, {withSealed, "", wire.CodeUnsecure},
		{withSealed[:len(withSealed)-3], "mySrtPassphrase1", CodeBadStreamID},
	} {
		t.Run(c.id+" "+c.passphrase, func(t *testing.T) {
			caller, err := d.dial(srttest.Options{StreamID: c.id, Passphrase: c.passphrase})
			if c.code != 0 {
				requireCode(t, c.code, err)
				return
			}
			require.NoError(t, err)
			await(t, d.gate.opened, "publication")
			caller.Close()
		})
	}
}

func TestEncryptedCallerOfAServerWithoutPassphrase(t *testing.T) {
	d := open(t, tokenGate(), nil)
	_, err := d.dial(srttest.Options{Passphrase: "0123456789"})
	requireCode(t, wire.CodeUnsecure, err)
}

func TestAPassphraseThatCannotBeUsedLetsNobodyIn(t *testing.T) {
	d := open(t, tokenGate(), func(o *Options) { o.ServerPassphrase = "short" })
	for _, pass := range []string{"", "0123456789"} {
		_, err := d.dial(srttest.Options{Passphrase: pass})
		requireCode(t, CodeInternal, err)
	}
	require.Contains(t, d.log.String(), "10 to 79 bytes")
}

// witness is a Witness that remembers.
type witness struct{ heard chan string }

func (w witness) Refused(r ingest.Request, err error) {
	w.heard <- fmt.Sprint(r.Protocol, " ", r.Remote.Addr(), " ", r.Stream, " ", fault.ReasonOf(err))
}

// TestSlowPassphraseAndSlowGate: both take of the time that a caller waits.
func TestSlowPassphraseAndSlowGate(t *testing.T) {
	g := tokenGate()
	release := make(chan struct{})
	g.refuse = func(r ingest.Request) error {
		<-release
		return checkToken(r)
	}
	d := open(t, g, func(o *Options) {
		o.Passphrase = func(ctx context.Context, _ ingest.Request) (string, error) {
			<-ctx.Done() // as late as it may
			return "", nil
		}
	})
	c, err := d.dial(srttest.Options{})
	close(release)
	require.NoError(t, err, "he is let in before he gives up, three seconds after he came")
	await(t, g.opened, "publication")
	c.Close()
}

// untilGone writes until the other side has hung up.
func untilGone(t testing.TB, c *srttest.Caller) {
	t.Helper()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, err := c.Write(make([]byte, 188)); err != nil {
				return
			}
		}
	}()
	await(t, gone, "goodbye")
	c.Close()
}

func TestAHundredCallersAtOnceAllGetAnAnswer(t *testing.T) {
	d := open(t, tokenGate(), nil)
	var wg sync.WaitGroup
	answers := make(chan error, 100)
	for i := range 100 {
		wg.Go(func() {
			o := srttest.Options{StreamID: fmt.Sprintf("#!::r=lobby_%d,m=publish,token=s3cret", i+1)}
			if i%4 == 3 {
				o.StreamID = "#!::r=lobby_1,token=wrong"
			}
			c, err := d.dial(o)
			if err == nil {
				t.Cleanup(c.Close)
			}
			answers <- err
		})
	}
	wg.Wait()
	in, out := 0, 0
	for range 100 {
		if err := await(t, answers, "answer"); err == nil {
			in++
			await(t, d.gate.opened, "publication")
		} else {
			requireCode(t, CodeUnauthorized, err)
			out++
		}
	}
	require.Equal(t, []int{75, 25}, []int{in, out})
}

func TestASlowGateHoldsNobodyElseUp(t *testing.T) {
	g := newGate()
	release, asked := make(chan struct{}), make(chan struct{}, 1)
	g.refuse = func(r ingest.Request) error {
		if r.Index == 1 {
			asked <- struct{}{}
			<-release
		}
		return nil
	}
	d := open(t, g, nil)
	slow := d.call(t, srttest.Options{})
	send(t, slow, messages(t, 10, 1))
	await(t, asked, "question")
	d.call(t, srttest.Options{StreamID: "#!::r=lobby_2,token=s3cret"})
	require.Equal(t, 2, await(t, g.opened, "publication").request.Index)
	close(release)
	p := await(t, g.opened, "publication")
	require.Equal(t, 1, p.request.Index)
	p.wait(t, 29)
	require.Zero(t, p.request.Counters.Link.Discontinuities.Load(), "what was sent meanwhile is there")
}

func TestAGateThatTakesTooLong(t *testing.T) {
	g := newGate()
	release, asked := make(chan struct{}), make(chan struct{}, 1)
	g.refuse = func(ingest.Request) error {
		asked <- struct{}{}
		<-release
		return nil
	}
	d := open(t, g, func(o *Options) { o.MaxOpening, o.OpenTimeout = 1, 100*time.Millisecond })
	first := make(chan error, 1)
	go func() {
		_, err := d.dial(srttest.Options{})
		first <- err
	}()
	await(t, asked, "question")
	_, err := d.dial(srttest.Options{StreamID: "#!::r=lobby_2,token=s3cret"})
	close(release)
	requireCode(t, CodeOverloaded, err)
	require.EqualValues(t, 1, d.stats.Refused()[fault.LimitExceeded])
	require.NoError(t, await(t, first, "answer"))
}

func TestLimits(t *testing.T) {
	d := open(t, tokenGate(), func(o *Options) { o.MaxConnections = 1 })
	d.call(t, srttest.Options{})
	await(t, d.gate.opened, "publication")
	_, err := d.dial(srttest.Options{StreamID: "#!::r=lobby_2,token=s3cret"})
	requireCode(t, CodeOverloaded, err)
}

func TestEndsFromThisSide(t *testing.T) {
	for about, c := range map[string]struct {
		change func(*Options)
		end    func(*door, *publication)
		reason fault.Reason
	}{
		"dismissed": {nil, func(_ *door, p *publication) {
			p.dismiss(fault.New(fault.StoppedByOperator, "enough"))
		}, fault.StoppedByOperator},
		"idle":          {func(o *Options) { o.IdleTimeout = 500 * time.Millisecond }, nil, fault.Idle},
		"server closes": {nil, func(d *door, _ *publication) { d.stop() }, fault.ServerDraining},
	} {
		t.Run(about, func(t *testing.T) {
			d := open(t, tokenGate(), c.change)
			caller := d.call(t, srttest.Options{})
			send(t, caller, messages(t, 3, 1))
			p := await(t, d.gate.opened, "publication")
			p.wait(t, 3)
			if c.end != nil {
				c.end(d, p)
			}
			await(t, p.closed, "end")
			require.Equal(t, c.reason, fault.ReasonOf(p.ended()))
			untilGone(t, caller)
		})
	}
}

func TestAPanicEndsOneConnection(t *testing.T) {
	g := tokenGate()
	g.prepare = func(p *publication) { p.panics = p.request.Index == 1 }
	d := open(t, g, nil)
	c := d.call(t, srttest.Options{})
	send(t, c, messages(t, 3, 1))
	p := await(t, g.opened, "publication")
	await(t, p.closed, "end")
	require.Equal(t, fault.InternalError, fault.ReasonOf(p.ended()))
	untilGone(t, c)
	require.Eventually(t, func() bool { return d.stats.Panics.Load() == 1 }, patience, time.Millisecond)
	second := d.call(t, srttest.Options{StreamID: "#!::r=lobby_2,token=s3cret"})
	send(t, second, messages(t, 3, 1))
	await(t, g.opened, "publication").wait(t, 3)
}

func TestUnsupportedMediaIsSaid(t *testing.T) {
	g := tokenGate()
	g.prepare = func(p *publication) {
		p.refuse = func([]*media.Track) error { return fault.New(fault.NotInProfile, "no") }
	}
	d := open(t, g, nil)
	c := d.call(t, srttest.Options{})
	send(t, c, messages(t, 3, 1))
	p := await(t, g.opened, "publication")
	await(t, p.closed, "end")
	require.Equal(t, fault.NotInProfile, fault.ReasonOf(p.ended()))
	untilGone(t, c)
}

func TestSeveralLanguages(t *testing.T) {
	d := open(t, tokenGate(), nil)
	c := d.call(t, srttest.Options{})
	list := messages(t, 40, 3)
	send(t, c, list[:len(list)/2])
	byIndex := map[int]*publication{}
	for range 3 {
		p := await(t, d.gate.opened, "publication")
		byIndex[p.request.Index] = p
	}
	send(t, c, list[len(list)/2:])
	byIndex[1].wait(t, 110)
	byIndex[1000].wait(t, 70)
	byIndex[1001].wait(t, 70)
	require.EqualValues(t, 2, d.stats.FurtherTracks.Load())
	c.Close()
	for _, index := range []int{1, 1000, 1001} {
		p := byIndex[index]
		require.NotNil(t, p, index)
		await(t, p.closed, "end")
		require.Equal(t, fault.Unpublished, fault.ReasonOf(p.ended()))
		require.Equal(t, "s3cret", p.request.Token)
	}
	require.Zero(t, d.stats.FurtherTracks.Load())
}

func TestConnectAndDrop(t *testing.T) {
	d := open(t, tokenGate(), nil)
	list := messages(t, 1, 1)
	for i := range 30 {
		c, err := d.dial(srttest.Options{})
		require.NoError(t, err)
		send(t, c, list)
		if i%2 == 0 { // else it may be gone before it is accepted
			p := await(t, d.gate.opened, "publication")
			c.Close()
			await(t, p.closed, "end")
			for len(d.gate.opened) > 0 {
				<-d.gate.opened
			}
		}
		c.Close()
	}
	require.Eventually(t, func() bool { return d.stats.Connections.Load() == 0 }, patience, time.Millisecond)
	require.Empty(t, d.stats.Links())
}

func TestRunEndsWithItsContext(t *testing.T) {
	l, err := wire.Listen(t.Context(), "127.0.0.1:0", wire.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, New(Options{Listener: l, Gate: newGate()}).Run(ctx))
}

func TestABrokenListenerIsAnError(t *testing.T) {
	l, err := wire.Listen(t.Context(), "127.0.0.1:0", wire.Options{})
	require.NoError(t, err)
	l.Close()
	require.Error(t, New(Options{Listener: l, Gate: newGate()}).Run(t.Context()))
}
