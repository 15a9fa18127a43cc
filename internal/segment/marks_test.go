package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// breaks puts a discontinuity before every fourth second, in picture and
// sound.
func breaks(p *media.Packet) bool {
	if p.DTS >= 4*time.Second && p.DTS%(4*time.Second) < 20*time.Millisecond {
		p.Flags |= media.Discontinuity
	}
	return true
}

func TestMarksOfDiscontinuitiesAreForgottenWithTheirSegments(t *testing.T) {
	goLive(t, Options{Window: 12 * time.Second, MinSegments: 3}, func(l *live) {
		one, d1 := l.publish(1, script{fps: 10, gop: 2 * time.Second, length: 200 * time.Second, edit: breaks}, 0)
		two, d2 := l.publish(2, script{fps: 10, gop: 2 * time.Second, length: 200 * time.Second, edit: breaks}, 0)
		for at := 10 * time.Second; at < 200*time.Second; at += 10 * time.Second {
			l.at(at)
			l.shelf.mu.Lock()
			marks := len(l.shelf.marks)
			l.shelf.mu.Unlock()
			require.LessOrEqual(t, marks, 8, "at %v", at)
			byNumber := map[uint64]uint64{}
			for _, s := range l.index(videoRow).Closed {
				byNumber[s.Number] = s.Discontinuity
			}
			for _, id := range []RowID{audioRow, {"2", media.Video}, {"2", media.Audio}} {
				for _, s := range l.index(id).Closed {
					if disc, ok := byNumber[s.Number]; ok {
						require.Equal(t, disc, s.Discontinuity, "%v %d", id, s.Number)
					}
				}
			}
		}
		newest := l.index(videoRow).Closed
		require.EqualValues(t, newest[len(newest)-1].Start/(4*time.Second), newest[len(newest)-1].Discontinuity)
		l.at(201 * time.Second)
		one.log.Close()
		two.log.Close()
		<-d1
		<-d2
	})
}
