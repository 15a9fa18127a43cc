package control

import (
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// changes are what an update asks for.
type changes struct {
	entry      stream.Entry
	passphrase *string // of SRT; nil leaves it
}

// A setter takes one field of a request over.
type setter func(c *changes, from *klivev1.Stream)

// setters are the fields of a stream that an update may change.
var setters = map[string]setter{
	"display_name":  func(c *changes, from *klivev1.Stream) { c.entry.DisplayName = from.GetDisplayName() },
	"partner_id":    func(c *changes, from *klivev1.Stream) { c.entry.Partner = int(from.GetPartnerId()) },
	"labels":        func(c *changes, from *klivev1.Stream) { c.entry.Labels = from.GetLabels() },
	passphraseField: func(c *changes, from *klivev1.Stream) { c.passphrase = new(from.GetSrtPassphrase()) },
}

// passphraseField is the one settable field that no reading call shows: what
// was read and is sent back whole must not take the encryption away.
const passphraseField = "srt_passphrase"

// maxMaskPaths bounds a mask; a stream has fewer fields.
const maxMaskPaths = 64

// settable turns an update mask into what to do (AIP-134, AIP-161). Without a
// mask the populated fields are meant, `*` means all, but the passphrase only
// where it is in the request. Fields that are output
// only are ignored, so that what was read can be sent back whole; unknown ones
// are an error.
func settable(mask *fieldmaskpb.FieldMask, from *klivev1.Stream) ([]setter, error) {
	paths := mask.GetPaths()
	if len(paths) > maxMaskPaths {
		return nil, badMask("update_mask has more than %d paths", maxMaskPaths)
	}
	if len(paths) == 0 {
		paths = populated(from)
	}
	fields := from.ProtoReflect().Descriptor().Fields()
	var out []setter
	for _, path := range paths {
		if path == "*" {
			if len(paths) > 1 {
				return nil, badMask("update_mask has * beside other paths; send one or the other")
			}
			for field, set := range setters {
				if field != passphraseField || from.SrtPassphrase != nil {
					out = append(out, set)
				}
			}
			return out, nil
		}
		top, _, deeper := strings.Cut(path, ".")
		set, ok := setters[top]
		switch {
		case fields.ByTextName(top) == nil:
			return nil, badMask("update_mask names %q, which is no field of a stream; display_name, partner_id, labels and srt_passphrase can be changed", shorten(path))
		case ok && deeper:
			return nil, badMask("update_mask names %q; name %s, which is replaced as a whole", shorten(path), top)
		case ok:
			out = append(out, set)
		}
	}
	return out, nil
}

func populated(s *klivev1.Stream) []string {
	var paths []string
	if s.GetDisplayName() != "" {
		paths = append(paths, "display_name")
	}
	if s.GetPartnerId() != 0 {
		paths = append(paths, "partner_id")
	}
	if len(s.GetLabels()) > 0 {
		paths = append(paths, "labels")
	}
	if s.SrtPassphrase != nil { // also an empty one
		paths = append(paths, passphraseField)
	}
	return paths
}

func badMask(format string, args ...any) error {
	return fault.New(fault.InvalidField, format, args...).With("field", "update_mask")
}
