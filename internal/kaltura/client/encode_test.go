package client

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParametersInBothEncodings(t *testing.T) {
	p := Params{"b": true, "c": false, "i": -5, "l": int64(1 << 40), "f": 899.96, "s": "a b&c", "none": []Params{},
		"resource": Params{"objectType": "X", "deep": Params{"v": 1}}, "list": []Params{{"u": "x"}, {"u": "y"}}}
	form, err := encodeForm(p)
	require.NoError(t, err)
	require.Equal(t, "b=1&c=0&f=899.96&i=-5&l=1099511627776&list%3A0%3Au=x&list%3A1%3Au=y&none%3A-=&resource%3Adeep%3Av=1&resource%3AobjectType=X&s=a+b%26c", string(form))
	text, err := encodeJSON(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"b":true,"c":false,"i":-5,"l":1099511627776,"f":899.96,"s":"a b&c","none":[],"resource":{"objectType":"X","deep":{"v":1}},"list":[{"u":"x"},{"u":"y"}]}`, string(text))
	for _, bad := range []any{nil, []string{"x"}, struct{}{}, Params{"x": nil}, []Params{{"x": nil}}} {
		_, err := encodeForm(Params{"p": bad})
		require.Error(t, err)
		_, err = encodeJSON(Params{"p": bad})
		require.Error(t, err)
		_, _, _, err = encodeFile(Params{"p": bad}, &File{})
		require.Error(t, err)
	}
	body, contentType, length, err := encodeFile(Params{"a": "b"}, &File{Field: "fileData", Name: "n", From: strings.NewReader("0123456789"), Offset: 3, Size: 4})
	require.NoError(t, err)
	all, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Len(t, all, int(length))
	require.Contains(t, string(all), "\r\n\r\n3456\r\n--")
	require.Contains(t, contentType, "multipart/form-data; boundary=")
}

// answers are what backends of several ages send.
var answers = []string{
	`{"objectType":"KalturaLiveStreamEntry","id":"0_a","partnerId":102,"dvrStatus":1,"dvrWindow":120,"currentBroadcastStartTime":1700000000.5,"explicitLive":0}`,
	`{"id":"0_a","partnerId":"102","dvrStatus":"1","dvrWindow":"120","currentBroadcastStartTime":"1700000000.5","explicitLive":"false","name":null}`,
	`{"id":"0_a","partnerId":102.0,"dvrStatus":true,"dvrWindow":" 120 ","currentBroadcastStartTime":1.7000000005e9,"explicitLive":null,"name":"","segmentDuration":"","extra":[1,{}]}`,
}

func TestLenientDecoding(t *testing.T) {
	for _, text := range answers {
		var e Entry
		require.NoError(t, decodeResult([]byte(text), Call{}, &e), text)
		require.Equal(t, Entry{ID: "0_a", Partner: 102, DVR: true, DVRWindow: 120, CurrentStart: 1700000000.5}, e, text)
	}
	var v struct {
		T Text
		I Int
	}
	require.NoError(t, json.Unmarshal([]byte(`{"T":7,"I":true}`), &v))
	require.Equal(t, Text("7"), v.T)
	require.EqualValues(t, 1, v.I)
	require.NoError(t, json.Unmarshal([]byte(`{"I":false}`), &v))
	require.Zero(t, v.I)
	for _, bad := range []string{`{"I":"many"}`, `{"I":[]}`, `{"T":{}}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &v), bad)
	}
	require.NoError(t, decodeResult([]byte("null"), Call{}, nil), "void")
	var list List[Asset]
	require.NoError(t, decodeResult([]byte(`{"objects":[{"id":"0_as"}],"totalCount":"31"}`), Call{}, &list))
	require.EqualValues(t, 31, list.Total, "the page was shorter than the list")
	var token string
	require.NoError(t, decodeResult([]byte(`"djJ8"`), Call{}, &token))

	err := decodeResult([]byte(`{"objectType":"KalturaAPIException","code":-1,"message":null,"args":[]}`), Call{}, nil)
	require.True(t, HasCode(err, "-1"))
}

func FuzzDecode(f *testing.F) {
	for _, text := range answers {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"objectType":"KalturaAPIException","code":"X","message":"m","args":{"A":1,"B":"x"}}`))
	f.Add([]byte(`{"objects":[{"id":1}],"totalCount":"1"}`))
	f.Add([]byte(`<xml><result><error><code>X</code></error></result></xml>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var e Entry
		_ = decodeResult(body, Call{}, &e)
		var l List[Asset]
		_ = decodeResult(body, Call{}, &l)
		_ = asXMLError(body, Call{})
	})
}
