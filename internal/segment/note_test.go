package segment

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestANoteComesBackWithAnInterruptedBroadcast(t *testing.T) {
	st := openStore(t, Options{})
	b := Broadcast{ID: "b1", Start: time.Now().UTC(), SegmentDuration: 10 * time.Second, Note: []byte("what the grant said\x00\xff")}
	mine := bytes.Clone(b.Note)
	b.Note = mine
	_, err := st.Begin(shelfOne, b, nil)
	require.NoError(t, err)
	clear(mine) // the caller's own again

	want := []byte("what the grant said\x00\xff")
	for range 2 { // continuing keeps it
		st = openStore(t, Options{Dir: crash(t, st.opts.Dir)})
		i := st.Interrupted()
		require.Len(t, i, 1)
		require.Equal(t, want, i[0].Broadcast.Note)
		require.Equal(t, 10*time.Second, i[0].Broadcast.SegmentDuration)
		_, err = st.Begin(shelfOne, i[0].Broadcast, nil)
		require.NoError(t, err)
	}
}

func TestANoteThatIsTooLongIsRefused(t *testing.T) {
	st := openStore(t, Options{})
	_, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now(), Note: make([]byte, MaxNote+1)}, nil)
	require.ErrorContains(t, err, "note")
	_, err = st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now(), Note: make([]byte, MaxNote)}, nil)
	require.NoError(t, err)
	require.Len(t, openStore(t, Options{Dir: crash(t, st.opts.Dir)}).Interrupted()[0].Broadcast.Note, MaxNote)
}

func TestANoteThatCannotBeReadCostsOnlyTheNote(t *testing.T) {
	st := openStore(t, Options{})
	_, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now(), Note: []byte("note")}, nil)
	require.NoError(t, err)
	for _, bad := range []string{`"***"`, `7`, `{"a":[]}`, `"` + strings.Repeat("AAAA", MaxNote/3+1) + `"`} {
		dir := crash(t, st.opts.Dir)
		path := filepath.Join(dir, "lobby", "0", recordName)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b = bytes.Replace(b, []byte(`"bm90ZQ=="`), []byte(bad), 1)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		i := openStore(t, Options{Dir: dir}).Interrupted()
		require.Len(t, i, 1, bad)
		require.Equal(t, "b1", i[0].Broadcast.ID)
		require.Nil(t, i[0].Broadcast.Note)
	}
}

func TestANoteCanBeReplacedWhileTheBroadcastLives(t *testing.T) {
	st := openStore(t, Options{})
	first, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now(), Note: []byte("before")}, nil)
	require.NoError(t, err)
	require.Error(t, first.Note(make([]byte, MaxNote+1)))
	require.NoError(t, first.Note([]byte("after")))
	require.Equal(t, []byte("after"), openStore(t, Options{Dir: crash(t, st.opts.Dir)}).Interrupted()[0].Broadcast.Note)

	first.End()
	require.ErrorContains(t, first.Note([]byte("late")), "over")
	_, err = st.Begin(shelfOne, Broadcast{ID: "b2", Start: time.Now(), Note: []byte("another")}, nil)
	require.NoError(t, err)
	require.ErrorContains(t, first.Note([]byte("late")), "over", "it is another broadcast's shelf now")
	require.Equal(t, []byte("another"), openStore(t, Options{Dir: crash(t, st.opts.Dir)}).Interrupted()[0].Broadcast.Note)
}
