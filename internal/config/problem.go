package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the configuration. It never holds the value of a secret.
type Problem struct {
	Source  string // file name or environment variable; empty when the value is a default
	Line    int    // line in the file, from 1; 0 when there is none
	Path    string // path of the key, such as "rtmp.listen" or "streams[1].id"; empty for the whole file
	Message string // what is wrong and what to do
}

// Error returns the problem as one line: source, line, path and message.
func (p Problem) Error() string {
	var b strings.Builder
	if p.Source != "" {
		b.WriteString(p.Source)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything wrong with the configuration, in the order it was found; Load returns it
// as its error (use errors.As).
type Problems []Problem

// Error returns the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// closest returns the candidate with the least edit distance to word, and that distance; an empty
// string when there is no candidate. The first of equals wins.
func closest(word string, candidates []string) (string, int) {
	best, bestDistance := "", -1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); bestDistance < 0 || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best, bestDistance
}

// near is the largest edit distance at which one word is taken for a misspelling of another.
func near(word string) int { return max(2, len(word)/3) }

// distance is the Levenshtein distance between two short texts, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
