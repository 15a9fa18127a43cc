package kalturatest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// servePlaylist answers the backend's playManifest: the master playlist that
// it writes itself from the streams of the registration, or, when there are
// none, a redirect to the media server's own.
//
//	/p/102/sp/10200/playManifest/entryId/0_rkij47dr/format/applehttp/protocol/http/a.m3u8
func (b *Backend) servePlaylist(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, rest, ok := strings.Cut(r.URL.Path, "/playManifest/")
	_, id, found := strings.Cut("/"+rest, "/entryId/")
	id, _, _ = strings.Cut(id, "/")
	if !ok || !found {
		http.NotFound(w, r)
		return
	}
	b.mu.Lock()
	b.settle(time.Now())
	media, streams := b.playable(id)
	b.mu.Unlock()
	switch {
	case media == "":
		http.Error(w, "the entry is not live", http.StatusNotFound)
	case len(streams) == 0:
		http.Redirect(w, r, media+"playlist.m3u8", http.StatusFound)
	default:
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		_, _ = w.Write([]byte(master(media, streams)))
	}
}

// playable is where an entry's media is and what is known of its renditions:
// of the primary when it is playable, else of the backup.
func (b *Backend) playable(id string) (string, []params) {
	for _, index := range []string{IndexPrimary, IndexBackup} {
		r := b.rows[rowKey{id, index}]
		if r == nil || r.status != StatusPlayable {
			continue
		}
		base := b.options.MediaURL
		application := "kLive"
		if n := b.nodeByID(r.node); n != nil {
			if n.Playback != "" {
				base = "http://" + n.Playback
			}
			if n.Application != "" {
				application = n.Application
			}
		}
		return fmt.Sprintf("%s/%s/smil:%s_all.smil/", strings.TrimSuffix(base, "/"), application, id), r.streams
	}
	return "", nil
}

// master writes a playlist of <flavor>/chunklist.m3u8 beside the media
// server's own. Streams without a picture are audio languages when there are
// streams with one.
func master(media string, streams []params) string {
	pictures := 0
	for _, s := range streams {
		if s.number("height", 0) > 0 {
			pictures++
		}
	}
	var b strings.Builder
	b.WriteString("#EXTM3U\n")
	group := ""
	for _, s := range streams {
		if language := s.str("language"); pictures > 0 && s.number("height", 0) == 0 && language != "" {
			group = `,AUDIO="audio"`
			fmt.Fprintf(&b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",LANGUAGE=%q,NAME=%q,DEFAULT=NO,AUTOSELECT=YES,URI=\"%s%s/chunklist.m3u8\"\n",
				language, language, media, s.str("flavorId"))
		}
	}
	for _, s := range streams {
		if pictures > 0 && s.number("height", 0) == 0 {
			continue
		}
		fmt.Fprintf(&b, "#EXT-X-STREAM-INF:PROGRAM-ID=1,BANDWIDTH=%d", max(kbps(s.float("bitrate")), 1000))
		if h := s.number("height", 0); h > 0 {
			fmt.Fprintf(&b, ",RESOLUTION=%dx%d", s.number("width", 0), h)
		}
		fmt.Fprintf(&b, "%s\n%s%s/chunklist.m3u8\n", group, media, s.str("flavorId"))
	}
	return b.String()
}
