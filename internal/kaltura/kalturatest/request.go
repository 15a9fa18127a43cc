package kalturatest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// The bounds of what is read of a request.
const (
	maxBody          = 4 << 20   // parameters
	maxUploadRequest = 512 << 20 // parameters and files
	uploadMemory     = 8 << 20   // beyond it, files of a request go to disk
)

// request is a decoded HTTP request.
type request struct {
	params params
	files  map[string]*multipart.FileHeader
}

// readRequest decodes path, query and body. What the address holds goes over
// what the body holds.
func readRequest(w http.ResponseWriter, r *http.Request) (request, error) {
	req := request{params: params{}, files: map[string]*multipart.FileHeader{}}
	if err := req.readBody(w, r); err != nil {
		return req, err
	}
	address := params{}
	for k, values := range r.URL.Query() {
		address.set(k, values[0])
	}
	req.params.merge(address)
	req.params.merge(pathParams(r.URL))
	return req, nil
}

// pathParams reads /key/value/… behind /api_v3/[index.php/]; of equal keys
// the first counts.
func pathParams(u *url.URL) params {
	rest := strings.TrimPrefix(u.EscapedPath(), "/api_v3/")
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "index.php"), "/")
	parts := strings.Split(rest, "/")
	out := params{}
	for i := 0; i+1 < len(parts); i += 2 {
		key, keyErr := url.PathUnescape(parts[i])
		value, valueErr := url.PathUnescape(parts[i+1])
		if keyErr != nil || valueErr != nil || key == "" {
			continue
		}
		if _, have := out[key]; !have {
			out.set(key, value)
		}
	}
	// "multirequest" stands alone: /service/multirequest.
	return out
}

func (req *request) readBody(w http.ResponseWriter, r *http.Request) error {
	contentType := strings.ToLower(r.Header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(contentType, "multipart/form-data"):
		return req.readMultipart(w, r)
	case strings.HasPrefix(contentType, "application/x-www-form-urlencoded"):
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			return err
		}
		for k, values := range r.PostForm {
			req.params.set(k, values[0])
		}
	case contentType == "application/json": // the exact text: with a charset the body is lost, as in the backend
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			return err
		}
		return req.readJSON(body)
	}
	return nil
}

// readJSON reads one object; anything else is no parameters at all.
func (req *request) readJSON(body []byte) error {
	body = bytes.TrimSpace(body)
	if !bytes.HasPrefix(body, []byte("{")) || !bytes.HasSuffix(body, []byte("}")) {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil //nolint:nilerr // the backend drops what it cannot read and complains about missing parameters
	}
	req.params = fromJSON(object)
	return nil
}

func (req *request) readMultipart(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxUploadRequest)
	if err := r.ParseMultipartForm(uploadMemory); err != nil {
		return err
	}
	if text := r.MultipartForm.Value["json"]; len(text) == 1 {
		if err := req.readJSON([]byte(text[0])); err != nil {
			return err
		}
	}
	for k, values := range r.MultipartForm.Value {
		if k != "json" && len(values) > 0 {
			req.params.set(k, values[0])
		}
	}
	for k, files := range r.MultipartForm.File {
		if len(files) != 1 {
			return errors.New("one file for each name")
		}
		req.files[k] = files[0]
	}
	return nil
}
