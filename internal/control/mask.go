package control

import (
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// A setter takes one field of a request over into an entry.
type setter func(e *stream.Entry, from *klivev1.Stream)

// setters are the fields of a stream that an update may change.
var setters = map[string]setter{
	"display_name": func(e *stream.Entry, from *klivev1.Stream) { e.DisplayName = from.GetDisplayName() },
	"partner_id":   func(e *stream.Entry, from *klivev1.Stream) { e.Partner = int(from.GetPartnerId()) },
	"labels":       func(e *stream.Entry, from *klivev1.Stream) { e.Labels = from.GetLabels() },
}

// maxMaskPaths bounds a mask; a stream has fewer fields.
const maxMaskPaths = 64

// settable turns an update mask into what to do (AIP-134, AIP-161). Without a
// mask the populated fields are meant, `*` means all. Fields that are output
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
			for _, set := range setters {
				out = append(out, set)
			}
			return out, nil
		}
		top, _, deeper := strings.Cut(path, ".")
		set, ok := setters[top]
		switch {
		case fields.ByTextName(top) == nil:
			return nil, badMask("update_mask names %q, which is no field of a stream; display_name, partner_id and labels can be changed", shorten(path))
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
	return paths
}

func badMask(format string, args ...any) error {
	return fault.New(fault.InvalidField, format, args...).With("field", "update_mask")
}
