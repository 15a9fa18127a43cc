package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// fetcher is a keep-alive HTTP/1.1 client that spends as little as it can: what it asks for is written beforehand, and
// of the answer only the status and the length are read.
type fetcher struct {
	c   net.Conn
	buf []byte
}

func newFetcher(ctx context.Context, host string) (*fetcher, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &fetcher{c: c, buf: make([]byte, 256<<10)}, nil
}

// request is the bytes of a GET.
func request(address string, gzip bool) (host string, text []byte, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, err
	}
	encoding := ""
	if gzip {
		encoding = "Accept-Encoding: gzip, deflate\r\n"
	}
	return u.Host, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n%s\r\n", u.RequestURI(), u.Host, encoding), nil
}

// do sends a request and reads the answer to its end; it returns the length of the body.
func (f *fetcher) do(request []byte) (int64, error) {
	if err := f.c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := f.c.Write(request); err != nil {
		return 0, err
	}
	n, end := 0, -1
	for end < 0 {
		m, err := f.c.Read(f.buf[n:])
		if err != nil {
			return 0, err
		}
		n += m
		end = bytes.Index(f.buf[:n], []byte("\r\n\r\n"))
	}
	head := f.buf[:end]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("the answer is %.60q", head)
	}
	length, err := contentLength(head)
	if err != nil {
		return 0, err
	}
	for left := length - int64(n-end-4); left > 0; {
		m, err := f.c.Read(f.buf[:min(left, int64(len(f.buf)))])
		left -= int64(m)
		if err != nil {
			return 0, err
		}
	}
	return length, nil
}

func contentLength(head []byte) (int64, error) {
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, errors.New("the answer has no Content-Length")
}

// hammer lets clients ask for the addresses one after the other, as fast as they are answered, until d has passed. It
// returns the answers and the bytes of their bodies.
func hammer(ctx context.Context, clients int, d time.Duration, addresses []string, gzip bool) (answers, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var requests [][]byte
	var host string
	for _, a := range addresses {
		h, text, err := request(a, gzip)
		if err != nil {
			return 0, 0, err
		}
		host, requests = h, append(requests, text)
	}
	var count, sum atomic.Int64
	failures := make(chan error, clients)
	var all sync.WaitGroup
	for k := range clients {
		f, err := newFetcher(ctx, host)
		if err != nil {
			return 0, 0, err
		}
		all.Go(func() {
			defer f.c.Close()
			for i := k; ctx.Err() == nil; i++ {
				n, err := f.do(requests[i%len(requests)])
				if err != nil {
					failures <- err
					return
				}
				count.Add(1)
				sum.Add(n)
			}
		})
	}
	all.Wait()
	close(failures)
	err = <-failures
	if errors.Is(err, io.EOF) {
		err = errors.New("the server closed a connection that was to be kept")
	}
	return count.Load(), sum.Load(), err
}
