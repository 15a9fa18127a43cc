package hls

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

func TestVideoRange(t *testing.T) {
	for transfer, want := range map[uint8]string{0: "", 1: "", media.TransferPQ: ",VIDEO-RANGE=PQ,", media.TransferHLG: ",VIDEO-RANGE=HLG,"} {
		x := &segment.Index{FrameRate: 25, Track: &media.Track{CodecString: "hvc1.2.4.L30.90",
			Video: media.VideoInfo{Width: 160, Height: 90, Color: media.Color{Transfer: transfer}}}}
		got := string(streamInf(nil, x, nil, 0))
		require.Contains(t, got, `CODECS="hvc1.2.4.L30.90"`)
		if want == "" {
			require.NotContains(t, got, "VIDEO-RANGE")
		} else {
			require.Contains(t, got, want)
		}
	}
}
