package hlscheck

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Ledger remembers what every URL held. It may be shared by followers; a nil Ledger forgets.
type Ledger struct {
	mu      sync.Mutex // guards the fields below
	content map[string][sha256.Size]byte
	changed []string
}

// note compares the content with what the address held before.
func (l *Ledger) note(address string, body []byte) {
	if l == nil {
		return
	}
	sum := sha256.Sum256(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.content == nil {
		l.content = make(map[string][sha256.Size]byte)
	}
	if old, ok := l.content[address]; ok && old != sum {
		l.changed = append(l.changed, address)
	}
	l.content[address] = sum
}

// Changed are the addresses that have held two contents.
func (l *Ledger) Changed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.changed...)
}

// Len is how many addresses are known.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.content)
}

// Verify downloads every known address again. An address may be gone (404 or 410), but not hold something else. It
// returns how many are still there.
func (l *Ledger) Verify(ctx context.Context, client *http.Client) (alive int, err error) {
	l.mu.Lock()
	addresses := make([]string, 0, len(l.content))
	for a := range l.content {
		addresses = append(addresses, a)
	}
	l.mu.Unlock()
	for _, a := range addresses {
		body, status, err := fetchStatus(ctx, client, a)
		if err != nil {
			return alive, err
		}
		switch status {
		case http.StatusOK:
			alive++
			l.note(a, body)
		case http.StatusNotFound, http.StatusGone:
		default:
			return alive, fmt.Errorf("%s is answered with %d", a, status)
		}
	}
	return alive, nil
}

func fetchStatus(ctx context.Context, client *http.Client, address string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return body, res.StatusCode, err
}
