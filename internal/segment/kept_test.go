package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A part that a playlist listed can still be fetched three target durations
// later, however the list was made anew meanwhile.
func TestListedPartsStayAsLongAgain(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		const length = 90 * time.Second
		src, _ := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: length}, 0)
		fetched := 0
		for at := 10 * time.Second; at < length-20*time.Second; at += 3 * time.Second {
			l.at(at)
			s := l.index(videoRow).Closed
			if len(s) < 6 {
				continue
			}
			old := s[len(s)-6] // it left the listed parts three segments ago
			c, err := l.shelf.Open(videoRow, old.Run, old.Number, 0)
			require.NoError(t, err, "part 0 of segment %d", old.Number)
			require.NoError(t, c.Close())
			fetched++
		}
		require.Positive(t, fetched)
		l.at(length)
		src.log.Close()
	})
}
