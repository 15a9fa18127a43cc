package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

// SessionsCommand is `klive ctl sessions`.
type SessionsCommand struct {
	List       SessionsList       `cmd:"" default:"withargs" help:"List sessions, newest first."`
	Get        SessionsGet        `cmd:"" help:"Show one session."`
	Disconnect SessionsDisconnect `cmd:"" help:"Dismiss a publisher; it may come back."`
}

// sessionName takes an id, or a name as the API writes it.
func sessionName(session string) string {
	if strings.HasPrefix(session, "streams/") {
		return session
	}
	return "streams/-/sessions/" + session
}

// SessionsList is `klive ctl sessions list`.
type SessionsList struct {
	Stream string `arg:"" optional:"" default:"-" help:"Id of the stream; without it the sessions of all."`
	Filter string `help:"Only sessions that fit, for example: state = PLAYABLE." placeholder:"FILTER"`
}

// Run prints every page.
func (s *SessionsList) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		service := klivev1.NewSessionServiceClient(conn)
		var rows [][]string
		for token := ""; ; {
			page, err := service.ListSessions(ctx, &klivev1.ListSessionsRequest{
				Parent: streamName(s.Stream), PageSize: pageSize, PageToken: token, Filter: s.Filter,
			})
			if err != nil {
				return err
			}
			for _, p := range page.GetSessions() {
				if c.JSON {
					if err := printJSON(to.Out, p); err != nil {
						return err
					}
				}
				rows = append(rows, sessionRow(p))
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if c.JSON {
			return nil
		}
		return table(to.Out, []string{"SESSION", "NAME", "SERVER", "STATE", "REASON", "PROTOCOL", "FROM", "ENCODER", "BITRATE", "SINCE"}, rows)
	})
}

func sessionRow(p *klivev1.Session) []string {
	return []string{
		p.GetId(), publishName(p), serverIndex(p.GetServerIndex()), state(p.GetState()), p.GetReason(), p.GetProtocol(),
		p.GetRemoteAddress(), p.GetUserAgent(), bitrate(p.GetBitrate()), when(p.GetStartTime()),
	}
}

// publishName is the stream name an encoder publishes: id and ingest index.
func publishName(p *klivev1.Session) string {
	parts := strings.Split(p.GetName(), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1] + "_" + strconv.Itoa(int(p.GetIngestIndex()))
}

// SessionsGet is `klive ctl sessions get`.
type SessionsGet struct {
	Session string `arg:"" help:"Id of the session."`
}

// Run prints the session.
func (s *SessionsGet) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewSessionServiceClient(conn).GetSession(ctx, &klivev1.GetSessionRequest{Name: sessionName(s.Session)})
		if err != nil {
			return err
		}
		return c.printSession(to, p)
	})
}

func (c *Command) printSession(to *IO, p *klivev1.Session) error {
	if c.JSON {
		return printJSON(to.Out, p)
	}
	offset := ""
	if j := p.GetTimeJoin(); j != nil {
		method := strings.ToLower(strings.TrimPrefix(j.GetMethod().String(), "TIME_JOIN_METHOD_"))
		offset = fmt.Sprintf("%s, by %s", j.GetOffset().AsDuration(), strings.ReplaceAll(method, "_", " "))
	}
	pairs := []string{
		"Session", p.GetId(), "Stream name", publishName(p), "Server", serverIndex(p.GetServerIndex()),
		"State", state(p.GetState()), "Reason", p.GetReason(), "Message", p.GetReasonMessage(),
		"Protocol", p.GetProtocol(), "From", p.GetRemoteAddress(), "Encoder", p.GetUserAgent(),
		"Broadcast", p.GetBroadcastId(), "Started", when(p.GetStartTime()), "Ended", when(p.GetEndTime()),
		"Tracks", tracks(p.GetTracks()), "Bitrate", bitrate(p.GetBitrate()),
		"Media", fmt.Sprintf("%d bytes in %d packets", p.GetMediaBytes(), p.GetPacketCount()),
		"Trouble", fmt.Sprintf("%d discontinuities, %d time repairs, %d bad messages",
			p.GetDiscontinuityCount(), p.GetTimeRepairCount(), p.GetBadMessageCount()),
		"Offset", offset,
	}
	return details(to.Out, append(pairs, linkDetails(p.GetLink())...)...)
}

// linkDetails tell of the network; there are none where the protocol tells
// nothing.
func linkDetails(l *klivev1.Link) []string {
	if l == nil {
		return nil
	}
	encrypted := "no"
	if l.GetEncrypted() {
		encrypted = "yes"
	}
	return []string{
		"Encrypted", encrypted,
		"Round trip", l.GetRtt().AsDuration().Round(10 * time.Microsecond).String(), // below 1 ms in one house
		"Latency", fmt.Sprintf("%s, %s buffered", length(l.GetLatency()), length(l.GetBuffered())),
		"Received", bitrate(l.GetReceiveBitrate()), "Bandwidth", bitrate(l.GetBandwidth()),
		"Packets", fmt.Sprintf("%d received, %d lost, %d retransmitted, %d dropped, %d undecrypted; %d gaps in the media",
			l.GetPacketCount(), l.GetLostPacketCount(), l.GetRetransmittedPacketCount(), l.GetDroppedPacketCount(),
			l.GetUndecryptedPacketCount(), l.GetDiscontinuityCount()),
	}
}

// SessionsDisconnect is `klive ctl sessions disconnect`.
type SessionsDisconnect struct {
	Session string `arg:"" help:"Id of the session."`
}

// Run dismisses the publisher and prints the session.
func (s *SessionsDisconnect) Run(ctx context.Context, c *Command, to *IO) error {
	return c.call(ctx, func(ctx context.Context, conn *client) error {
		p, err := klivev1.NewSessionServiceClient(conn).DisconnectSession(ctx, &klivev1.DisconnectSessionRequest{Name: sessionName(s.Session)})
		if err != nil {
			return err
		}
		return c.printSession(to, p)
	})
}
