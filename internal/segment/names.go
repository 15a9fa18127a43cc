package segment

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// A segment's file name says all that its bytes do not, so that a row's index
// is its folder's listing and there is no second record to disagree with it:
//
//	<number>_<run>_<init>_<discontinuity>_<start>_<time>_<independent>.part   open
//	<number>_…_<independent>_<duration>.m4s                                   closed
//	<number>_…_<independent>_<duration>.gap                                   no content
//
// start and duration are nanoseconds, time nanoseconds since 1970.
const (
	extOpen   = ".part"
	extClosed = ".m4s"
	extGap    = ".gap"

	openFields   = 7
	closedFields = 8
)

// fileName is the name of the segment's file: its last one, or the one it has
// while it grows.
func (s *Segment) fileName(open bool) string {
	b := make([]byte, 0, 112)
	n := strconv.AppendUint(nil, s.Number, 10)
	for range 12 - len(n) {
		b = append(b, '0')
	}
	b = append(b, n...)
	b = append(append(b, '_'), s.Run...)
	b = strconv.AppendInt(append(b, '_'), int64(s.Init), 10)
	b = strconv.AppendUint(append(b, '_'), s.Discontinuity, 10)
	b = strconv.AppendInt(append(b, '_'), int64(s.Start), 10)
	b = strconv.AppendInt(append(b, '_'), s.Time.UnixNano(), 10)
	if s.Independent {
		b = append(b, "_1"...)
	} else {
		b = append(b, "_0"...)
	}
	if open {
		return string(append(b, extOpen...))
	}
	b = strconv.AppendInt(append(b, '_'), int64(s.Duration), 10)
	if s.Gap {
		return string(append(b, extGap...))
	}
	return string(append(b, extClosed...))
}

// parseFileName reads what fileName wrote; open says that the segment was
// never finished. Size and parts are not in the name.
func parseFileName(name string) (s Segment, open, ok bool) {
	var rest string
	want := closedFields
	if rest, open = strings.CutSuffix(name, extOpen); open {
		want = openFields
	} else if rest, s.Gap = strings.CutSuffix(name, extGap); !s.Gap {
		if rest, ok = strings.CutSuffix(name, extClosed); !ok {
			return s, false, false
		}
	}
	f := strings.Split(rest, "_")
	if len(f) != want {
		return s, false, false
	}
	ok = true
	num := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		ok = ok && err == nil
		return n
	}
	whole := func(text string) uint64 {
		n := num(text)
		ok = ok && n >= 0
		return uint64(n) //nolint:gosec // refused when negative
	}
	s.Number = whole(f[0])
	s.Run = f[1]
	s.Init = int(whole(f[2])) //nolint:gosec // not negative
	s.Discontinuity = whole(f[3])
	s.Start = time.Duration(num(f[4]))
	s.Time = time.Unix(0, num(f[5]))
	s.Independent = f[6] == "1"
	if !open {
		s.Duration = time.Duration(whole(f[7])) //nolint:gosec // not negative
	}
	return s, open, ok && validRun(s.Run) && (f[6] == "0" || s.Independent)
}

// validRun reports whether a string can be a run id; it is part of file names
// that come from URLs.
func validRun(run string) bool {
	if run == "" || len(run) > 32 {
		return false
	}
	for _, c := range []byte(run) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// The other names in a row's folder.
const (
	initPrefix = "init_"
	extInit    = ".mp4"
	extTrack   = ".json"
)

func initName(run string, n int) string { return initPrefix + run + "_" + strconv.Itoa(n) }

// parseInitName reads the name of an init section's file or its track's.
func parseInitName(name string) (id initID, ok bool) {
	name, ok = strings.CutPrefix(name, initPrefix)
	if !ok {
		return id, false
	}
	rest, ok := strings.CutSuffix(name, extInit)
	if !ok {
		if rest, ok = strings.CutSuffix(name, extTrack); !ok {
			return id, false
		}
	}
	run, number, ok := strings.Cut(rest, "_")
	n, err := strconv.Atoi(number)
	return initID{run, n}, ok && err == nil && validRun(run) && n >= 0
}

// folder names; a "%" stands for what a file name may not hold.

func rowFolder(id RowID) string { return escapeName(id.Rendition) + "." + id.Kind.String() }

func parseRowFolder(name string) (id RowID, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return id, false
	}
	switch name[i+1:] {
	case media.Video.String():
		id.Kind = media.Video
	case media.Audio.String():
		id.Kind = media.Audio
	default:
		return id, false
	}
	r, err := url.PathUnescape(name[:i])
	id.Rendition = r
	return id, err == nil && r != ""
}

// escapeName makes one path element of any string; "." and ".." too.
func escapeName(s string) string {
	s = url.PathEscape(s)
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return s
}
