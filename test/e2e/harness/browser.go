package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Viewing is what a browser saw. Times are milliseconds of the wall clock.
type Viewing struct {
	Opened  int64         `json:"opened"`
	Started int64         `json:"started"` // first picture
	Settled int64         `json:"settled"` // when the pictures were as timely as wanted; 0: never
	Frames  [][3]*float64 `json:"frames"`  // presented at, latency (null: unreadable), media time
	Unread  int           `json:"unread"`
	Events  []struct {
		Name string  `json:"name"`
		At   int64   `json:"at"`
		Time float64 `json:"time"`
	} `json:"events"`
	Video struct {
		CurrentTime float64 `json:"currentTime"`
		Paused      bool    `json:"paused"`
		Width       int     `json:"width"`
		Height      int     `json:"height"`
		Rate        float64 `json:"rate"`
		Dropped     int     `json:"dropped"`
		Total       int     `json:"total"`
		Audio       int     `json:"audio"` // decoded bytes
		Page        any     `json:"page"`  // what the player page says of itself: window.klive
	} `json:"video"`
	Console  []string `json:"console"`
	Failed   []string `json:"failed"`
	Requests int      `json:"requests"`
	Error    string   `json:"error"`
}

// Latencies are the readable latencies of the pictures presented once it had settled, in order of time.
func (v *Viewing) Latencies() []time.Duration {
	var list []time.Duration
	for _, f := range v.Frames {
		if f[1] != nil && *f[0] >= float64(v.Settled) {
			list = append(list, time.Duration(*f[1])*time.Millisecond)
		}
	}
	return list
}

// Freezes are the stretches longer than d between two presented pictures, once it had settled.
func (v *Viewing) Freezes(d time.Duration) []time.Duration {
	var list []time.Duration
	for i := 1; i < len(v.Frames); i++ {
		from, to := *v.Frames[i-1][0], *v.Frames[i][0]
		if gap := time.Duration(to-from) * time.Millisecond; gap > d && from >= float64(v.Settled) {
			list = append(list, gap)
		}
	}
	return list
}

// Percentile is the q-th (0 to 1) of the list, which need not be sorted.
func Percentile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Browser is a Chromium that watches a page.
type Browser struct {
	*Process
	out        *bytes.Buffer
	Screenshot string
}

// patience is how long a player may take from its first picture until it has settled.
const patience = 30 * time.Second

// Watch opens the page in Chromium and watches its video for the given time, from when thirty pictures in a row were not
// older than target; target 0: from the first picture.
func Watch(dir, page string, d, target time.Duration) (*Browser, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	b := &Browser{out: new(bytes.Buffer), Screenshot: outputFile(dir, "screen") + ".png"}
	job, err := json.Marshal(map[string]any{"url": page, "seconds": d.Seconds(), "screenshot": b.Screenshot, "target": target.Milliseconds(), "patience": patience.Seconds()})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("node", filepath.Join(root, "test", "e2e", "js", "play.mjs"), string(job))
	cmd.Stdout = b.out
	cmd.Env = os.Environ()
	if os.Getenv("E2E_NODE_MODULES") == "" {
		cmd.Env = append(cmd.Env, "E2E_NODE_MODULES="+filepath.Join(root, "web", "node_modules"))
	}
	b.Process, err = StartProcess(cmd, outputFile(dir, "browser"))
	return b, err
}

// Result waits for the browser and reads what it saw.
func (b *Browser) Result(timeout time.Duration) (*Viewing, error) {
	if !b.Wait(timeout) {
		b.KillGroup()
		return nil, fmt.Errorf("the browser did not end within %v: %s", timeout, b.Tail(2000))
	}
	// Beside the screenshot, for who wants to know more.
	_ = os.WriteFile(strings.TrimSuffix(b.Screenshot, ".png")+".json", b.out.Bytes(), 0o600)
	v := new(Viewing)
	if err := json.Unmarshal(b.out.Bytes(), v); err != nil {
		return nil, fmt.Errorf("read what the browser saw: %w: %s", err, b.Tail(2000))
	}
	if v.Error != "" {
		return v, fmt.Errorf("the browser: %s; console: %q; failed requests: %q", v.Error, v.Console, v.Failed)
	}
	return v, nil
}
