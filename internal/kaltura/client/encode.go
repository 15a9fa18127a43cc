package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/url"
	"slices"
	"strconv"
)

// readerAt is a file being uploaded; *os.File is one.
type readerAt = io.ReaderAt

func encodeJSON(p Params) ([]byte, error) {
	if err := check(p); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// check refuses values that one of the encodings would not know.
func check(p Params) error {
	_, err := flatten(p)
	return err
}

func encodeForm(p Params) ([]byte, error) {
	fields, err := flatten(p)
	if err != nil {
		return nil, err
	}
	values := make(url.Values, len(fields))
	for _, f := range fields {
		values.Set(f.name, f.value)
	}
	return []byte(values.Encode()), nil
}

type field struct{ name, value string }

// flatten renders parameters as name:name=value pairs, in a stable order.
func flatten(p Params) ([]field, error) {
	var out []field
	var walk func(prefix string, v any) error
	walk = func(name string, v any) error {
		switch v := v.(type) {
		case string:
			out = append(out, field{name, v})
		case bool:
			out = append(out, field{name, map[bool]string{true: "1", false: "0"}[v]})
		case int:
			out = append(out, field{name, strconv.Itoa(v)})
		case int64:
			out = append(out, field{name, strconv.FormatInt(v, 10)})
		case float64:
			out = append(out, field{name, strconv.FormatFloat(v, 'f', -1, 64)})
		case Params:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if err := walk(name+":"+k, v[k]); err != nil {
					return err
				}
			}
		case []Params:
			if len(v) == 0 {
				out = append(out, field{name + ":-", ""}) // an empty array on purpose
			}
			for i, item := range v {
				if err := walk(name+":"+strconv.Itoa(i), item); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("parameter %s: %T cannot be sent", name, v)
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(p)) {
		if err := walk(k, p[k]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// encodeFile renders parameters and a file as multipart/form-data without
// reading the file into memory.
func encodeFile(p Params, f *File) (io.Reader, string, int64, error) {
	fields, err := flatten(p)
	if err != nil {
		return nil, "", 0, err
	}
	var text bytes.Buffer
	w := multipart.NewWriter(&text) // writes to memory: its errors are about misuse
	for _, field := range fields {
		if err := w.WriteField(field.name, field.value); err != nil {
			return nil, "", 0, err
		}
	}
	if _, err := w.CreateFormFile(f.Field, f.Name); err != nil {
		return nil, "", 0, err
	}
	head := text.Len()
	if err := w.Close(); err != nil {
		return nil, "", 0, err
	}
	before, after := text.Bytes()[:head], text.Bytes()[head:]
	body := io.MultiReader(bytes.NewReader(before), io.NewSectionReader(f.From, f.Offset, f.Size), bytes.NewReader(after))
	return body, w.FormDataContentType(), int64(text.Len()) + f.Size, nil
}
