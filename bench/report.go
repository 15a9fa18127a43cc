package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	group, what, figure, limit string
	verdict                    string // "pass", "FAIL", or empty where there is no limit
}

// report gathers the figures of a run.
type report struct {
	rows  []row
	notes []string
	short bool
	began time.Time
}

func newReport(short bool) *report { return &report{short: short, began: time.Now()} }

// note adds a sentence below the table.
func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// figure adds a figure without a limit.
func (r *report) figure(group, what, format string, args ...any) {
	r.add(row{group: group, what: what, figure: fmt.Sprintf(format, args...)})
}

// bar adds a figure with a limit that it must not pass.
func (r *report) bar(group, what string, value, limit float64, unit string, detail string) {
	verdict := "pass"
	if value > limit {
		verdict = "FAIL"
	}
	figure := fmt.Sprintf("%.3g%s", value, unit)
	if detail != "" {
		figure += " (" + detail + ")"
	}
	r.add(row{group: group, what: what, figure: figure, limit: fmt.Sprintf("≤ %g%s", limit, unit), verdict: verdict})
}

// failed notes a scenario that gave no figure.
func (r *report) failed(group string, err error) {
	r.add(row{group: group, what: "the scenario", figure: strings.ReplaceAll(err.Error(), "\n", " "), verdict: "FAIL"})
}

func (r *report) add(x row) {
	r.rows = append(r.rows, x)
	fmt.Fprintf(os.Stderr, "   %-10s %-60s %-50s %-12s %s\n", x.group, x.what, x.figure, x.limit, x.verdict)
}

// write writes the table as Markdown.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	mode := "full"
	if r.short {
		mode = "short"
	}
	fmt.Fprintf(&b, "# Benchmarks\n\n%s, %s run of %.0f s, %s, %d CPUs (%s), Linux %s\n\n", r.began.UTC().Format("2006-01-02 15:04 MST"), mode,
		time.Since(r.began).Seconds(), runtime.Version(), runtime.NumCPU(), cpuModel(), kernel())
	widths := [4]int{}
	cells := [][4]string{{"group", "what", "figure", "limit"}}
	for _, x := range r.rows {
		limit := x.limit
		if x.verdict != "" {
			limit = strings.TrimSpace(limit + " " + x.verdict)
		}
		cells = append(cells, [4]string{x.group, x.what, x.figure, limit})
	}
	for _, c := range cells {
		for i, s := range c {
			widths[i] = max(widths[i], len([]rune(s)))
		}
	}
	line := func(c [4]string) {
		for i, s := range c {
			fmt.Fprintf(&b, "| %s%s ", s, strings.Repeat(" ", widths[i]-len([]rune(s))))
		}
		b.WriteString("|\n")
	}
	line(cells[0])
	for _, n := range widths {
		b.WriteString("|" + strings.Repeat("-", n+2))
	}
	b.WriteString("|\n")
	for _, c := range cells[1:] {
		line(c)
	}
	b.WriteString("\n")
	for _, n := range r.notes {
		b.WriteString("- " + n + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "unknown"
}

func kernel() string {
	out, err := exec.Command("uname", "-r").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// spread says min, median and max of a list.
func spread(list []float64, unit string) string {
	s := slices.Sorted(slices.Values(list))
	if len(s) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("min %.3g, median %.3g, max %.3g%s of %d", s[0], median(s), s[len(s)-1], unit, len(s))
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if len(s) == 0 {
		return 0
	}
	if len(s)%2 == 0 {
		return (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return s[len(s)/2]
}
