//go:build srtgo

// Command srtgo only reads what comes over SRT through libsrt: the peer that the SRT door is measured beside. It needs
// libsrt-openssl-dev and gcc, which nothing else does, hence the tag.
//
// It prints its address, then each time that nobody is connected any more how many bytes it has read since the last time,
// and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"

	"github.com/haivision/srtgo"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: srtgo PORT PASSPHRASE")
		os.Exit(2)
	}
	if err := sink(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "srtgo:", err)
		os.Exit(1)
	}
}

func sink(port, passphrase string) error {
	var n uint16
	if _, err := fmt.Sscan(port, &n); err != nil {
		return err
	}
	srtgo.InitSRT()
	// In blocking mode: a listener that does not block forgets callers that come together, and its reads spin.
	l := srtgo.NewSrtSocket("127.0.0.1", n, map[string]string{"mode": "listener", "blocking": "1", "transtype": "live", "rcvlatency": "120"})
	if l == nil {
		return fmt.Errorf("libsrt gives no socket")
	}
	l.SetListenCallback(func(s *srtgo.SrtSocket, _ int, _ *net.UDPAddr, _ string) bool {
		return s.SetSockOptString(srtgo.SRTO_PASSPHRASE, passphrase) == nil
	})
	if err := l.Listen(128); err != nil {
		return err
	}
	fmt.Printf("%q\n", "127.0.0.1:"+port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var open, read atomic.Int64
	for {
		s, _, err := l.Accept()
		if err != nil {
			continue // a caller that went away in the middle
		}
		open.Add(1)
		go func() {
			defer s.Close()
			total := int64(0)
			defer func() {
				read.Add(total)
				if open.Add(-1) == 0 {
					fmt.Println(read.Swap(0))
				}
			}()
			buf := make([]byte, 2048)
			for {
				n, err := s.Read(buf)
				if err != nil || n == 0 {
					return
				}
				total += int64(n)
			}
		}()
	}
}
