package hls

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// paths seed the fuzzer, too.
var paths = map[string]address{
	"/live/lobby/":                              {class: classPage, stream: "lobby"},
	"/live/lobby":                               {class: classRedirect, stream: "lobby"},
	"/live/-/player.js":                         {class: classAsset, file: "player.js"},
	"/live/lobby/index.m3u8":                    {class: classMultivariant, stream: "lobby"},
	"/live/0_rkij47dr/1/video/index.m3u8":       {class: classMedia, stream: "0_rkij47dr", rendition: "1", kind: media.Video},
	"/live/lobby/1~hi/audio/index.m3u8":         {class: classMedia, stream: "lobby", rendition: "1~hi", kind: media.Audio},
	"/live/lobby/1/video/0/r1/17.m4s":           {class: classSegment, stream: "lobby", rendition: "1", kind: media.Video, run: "r1", number: 17, part: whole},
	"/live/lobby/1/video/1/r1/17.3.m4s":         {class: classPart, stream: "lobby", rendition: "1", kind: media.Video, server: 1, run: "r1", number: 17, part: 3},
	"/live/lobby/1/audio/0/r1/init2.mp4":        {class: classInit, stream: "lobby", rendition: "1", kind: media.Audio, run: "r1", init: 2, part: whole},
	"/kLive/smil:x_all.smil/playlist.m3u8":      {class: classMultivariant, name: "smil:x_all.smil"},
	"/kLive/_definst_/x_1/playlist.m3u8":        {class: classMultivariant, name: "x_1"},
	"/kLive/x_1/1/chunklist.m3u8":               {class: classChunklist, name: "x_1", rendition: "1"},
	"/kLive/x_1/1/0/r1/7.m4s":                   {class: classSegment, name: "x_1", rendition: "1", run: "r1", number: 7, part: whole},
	"/kLive/_definst_/x_1/1/1/r1/init2-x.mp4":   {class: classInit, name: "x_1", rendition: "1", server: 1, run: "r1", part: whole, init: 2, initSound: missing},
	"/live/lobby/1/video/0/r1/9999999999.0.m4s": {class: classPart, stream: "lobby", rendition: "1", kind: media.Video, run: "r1", number: 9999999999},
}

func TestPaths(t *testing.T) {
	for path, want := range paths {
		got, ok := parsePath(path)
		require.True(t, ok, path)
		require.Equal(t, want, got, path)
	}
}

// write is the reverse of parsePath.
func (a *address) write() string {
	folder := "/live/" + a.stream + "/"
	if a.name != "" {
		folder = "/kLive/" + a.name + "/"
	}
	inside := folder + a.rendition + "/"
	if a.name == "" {
		inside += folderOf(a.kind) + "/"
	}
	inside += fmt.Sprintf("%d/%s/", a.server, a.run)
	switch a.class {
	case classPage:
		return folder
	case classRedirect:
		return folder[:len(folder)-1]
	case classAsset:
		return "/live/-/" + a.file
	case classMultivariant:
		if a.name != "" {
			return folder + "playlist.m3u8"
		}
		return folder + "index.m3u8"
	case classChunklist:
		return folder + a.rendition + "/chunklist.m3u8"
	case classMedia:
		return folder + a.rendition + "/" + folderOf(a.kind) + "/index.m3u8"
	case classSegment:
		return fmt.Sprintf("%s%d.m4s", inside, a.number)
	case classPart:
		return fmt.Sprintf("%s%d.%d.m4s", inside, a.number, a.part)
	case classInit:
		if a.name != "" {
			return inside + "init" + string(appendOrX(nil, a.init)) + "-" + string(appendOrX(nil, a.initSound)) + ".mp4"
		}
		return fmt.Sprintf("%sinit%d.mp4", inside, a.init)
	}
	return ""
}

// FuzzPath holds that what is read can be written and read again, and that
// one thing has one address ("/kLive/_definst_/" aside).
func FuzzPath(f *testing.F) {
	for path := range paths {
		f.Add(path)
	}
	f.Add("/live/%2e%2e/x")
	f.Add("/kLive/_definst_/_definst_/playlist.m3u8")
	h := New(Options{Store: newFakeStore(), LowLatency: true})
	f.Fuzz(func(t *testing.T, path string) {
		a, ok := parsePath(path)
		serve(h, "GET", (&url.URL{Path: "/" + path}).String())
		if !ok {
			return
		}
		again, ok := parsePath(a.write())
		require.True(t, ok)
		require.Equal(t, a, again)
	})
}

// FuzzQuery holds that what is understood means the same when written again.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"", "i=0", "i=1&_HLS_msn=17&_HLS_part=3&_HLS_skip=YES", "_HLS_msn=0&_HLS_skip=v2", "flavorIds=1%2C2&DVR", "_HLS_part=1", "i=7", "%", "&&=&=",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			require.NotEmpty(t, sentence(err))
			return
		}
		v := url.Values{}
		if q.server != anyServer {
			v.Set("i", fmt.Sprint(q.server))
		}
		if q.blocking {
			v.Set("_HLS_msn", fmt.Sprint(q.msn))
		}
		if q.part != whole {
			v.Set("_HLS_part", fmt.Sprint(q.part))
		}
		if q.skip {
			v.Set("_HLS_skip", "YES")
		}
		if q.flavors != "" {
			v.Set("flavorIds", q.flavors)
		}
		again, err := parseQuery(v.Encode())
		require.NoError(t, err)
		require.Equal(t, q, again)
	})
}

func TestNamesOfKalturasLayout(t *testing.T) {
	streams := map[string]bool{"0_rkij47dr": true, "my_show": true, "my": true, "a-b_c": true}
	for name, want := range map[string][2]string{
		"smil:0_rkij47dr_all.smil":   {"0_rkij47dr", "all"},
		"smil:0_rkij47dr_1_2_3.smil": {"0_rkij47dr", "1_2_3"},
		"0_rkij47dr_1":               {"0_rkij47dr", "1"},
		"my_show_1":                  {"my_show", "1"},
		"my_other_1":                 {"my", "other_1"},
		"a-b_c_487041":               {"a-b_c", "487041"},
		"smil:0_rkij47dr_.smil":      {},
		"smil:0_rkij47dr.smil":       {},
		"smil:unknown_all.smil":      {},
		"smil:0_rkij47dr_all":        {},
		"0_rkij47dr":                 {},
		"_1":                         {},
	} {
		id, rest, ok := splitName(name, func(id string) bool { return streams[id] })
		require.Equal(t, want[0] != "", ok, name)
		if ok {
			require.Equal(t, want, [2]string{id, rest}, name)
		}
	}
}
