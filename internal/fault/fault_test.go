package fault

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the generated page instead of comparing it")

func TestReference(t *testing.T) {
	const page = "../../docs/reasons.md"
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(Reference()), 0o644)) //nolint:gosec // a page of the repository, for everybody
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, Reference(), string(got), "docs/reasons.md is not up to date: run go generate ./internal/fault")
}

func TestEveryReasonHasARow(t *testing.T) {
	word := regexp.MustCompile(`^[A-Z][A-Z_]+$`)
	for _, r := range Reasons() {
		require.Regexp(t, word, string(r))
		require.NotEmpty(t, r.Doc(), r)
	}
	require.Equal(t, Internal, Reason("NO_SUCH_REASON").Code())
}

func TestErrorKeepsReasonThroughWrapping(t *testing.T) {
	cause := errors.New("disk on fire")
	e := New(StreamBusy, "%s is on air", "lobby_1").With("stream", "lobby").Because(cause)
	wrapped := fmt.Errorf("open publication: %w", e)

	require.Equal(t, StreamBusy, ReasonOf(wrapped))
	require.ErrorIs(t, wrapped, New(StreamBusy, ""))
	require.NotErrorIs(t, wrapped, New(BadToken, ""))
	require.ErrorIs(t, wrapped, cause)
	require.Equal(t, "lobby_1 is on air", From(wrapped).Message)
	require.Equal(t, AlreadyExists, From(wrapped).Code)
}

func TestWithDoesNotChangeTheOriginal(t *testing.T) {
	a := New(BadToken, "no")
	b := a.With("k", "v")
	c := b.With("k", "w")
	require.Nil(t, a.Metadata)
	require.Equal(t, "v", b.Metadata["k"])
	require.Equal(t, "w", c.Metadata["k"])
}

func TestFromHidesForeignErrors(t *testing.T) {
	require.Nil(t, From(nil))
	e := From(errors.New("open /secret: no"))
	require.Equal(t, InternalError, e.Reason)
	require.NotContains(t, e.Message, "secret")
	require.Equal(t, Reason(""), ReasonOf(errors.New("x")))
}
