package kalturatest

import (
	"fmt"
	"strings"
)

// failure is an error of the API: HTTP 200 with a code, a message and the
// arguments the message was made of.
type failure struct {
	code, message string
	args          map[string]string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

// failures are the messages by code; @NAME@ stands for an argument.
var failures = map[string]string{
	"INVALID_KS":                                       `Invalid KS "@KSID@", Error "@ERR_CODE@,@ERR_DESC@"`,
	"MISSING_KS":                                       "Missing KS. Session not established",
	"START_SESSION_ERROR":                              "Error while starting session for partner [@PARTNER_ID@]",
	"SERVICE_FORBIDDEN":                                "The access to service [@SERVICE@->@ACTION@] is forbidden",
	"SERVICE_FORBIDDEN_CONTENT_BLOCKED":                "The access to this service is forbidden since the specified partner is blocked",
	"SERVICE_DOES_NOT_EXISTS":                          `Service "@SERVICE@" does not exists`,
	"ACTION_DOES_NOT_EXISTS":                           `Action "@ACTION@" does not exists for service "@SERVICE@"`,
	"SERVICE_NOT_SPECIFIED":                            "Service name was not specified, please specify one",
	"MISSING_MANDATORY_PARAMETER":                      `Missing parameter "@PARAM@"`,
	"INVALID_ENUM_VALUE":                               `The value "@VALUE@" of parameter [@PARAM@] is not part of its enumeration`,
	"OBJECT_TYPE_ABSTRACT":                             `The object type "@TYPE@" is abstract, use one of the inherited types`,
	"PROPERTY_VALIDATION_CANNOT_BE_NULL":               `The property "@PROPERTY@" cannot be null`,
	"ENTRY_ID_NOT_FOUND":                               `Entry id "@ENTRY_ID@" not found`,
	"LIVE_STREAM_INVALID_TOKEN":                        "Invalid token supplied for live entry [@ENTRY_ID@]",
	"LIVE_STREAM_EXCEEDED_MAX_PASSTHRU":                "Partner exceeded max pass-through live streams in entry[@ENTRY_ID@]",
	"LIVE_STREAM_EXCEEDED_MAX_TRANSCODED":              "Partner exceeded max concurrent transcoded live streams in entry[@ENTRY_ID@]",
	"LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG": "entry [@ENTRY_ID@] exceeded max concurrent streams of tag [@TAG@] (allowed [@LIMIT@])",
	"LIVE_STREAM_ALREADY_BROADCASTING":                 "Entry [@ENTRY_ID@] already broadcasting to server [@SERVER@]",
	"LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION":       "Entry exceeded max recorded live stream duration in entry[@ENTRY_ID@]",
	"CANNOT_UPDATE_FIELDS_WHILE_ENTRY_BROADCASTING":    "The fields [@FIELDS@] cannot be updated while the entry is broadcasting",
	"MEDIA_SERVER_NOT_FOUND":                           "Media server [@HOST@] not found",
	"SERVER_NODE_NOT_FOUND":                            "server node with host name [@HOST@] not found",
	"SERVER_NODE_NOT_FOUND_WITH_ID":                    "server node with id [@ID@] not found",
	"HOST_NAME_ALREADY_EXISTS":                         "Host name [@HOST@] already exists",
	"INVALID_OBJECT_ID":                                "Invalid object id [@ID@]",
	"ENTRY_SERVER_NODE_NOT_FOUND":                      "Entry server node with entry id [@ENTRY_ID@] and server type [@TYPE@] not found",
	"KALTURA_RECORDING_ENABLED":                        "Kaltura recording is enabled for partner [@PARTNER_ID@] use liveStream->setRecordedContent instead",
	"KALTURA_RECORDING_DISABLED":                       "Kaltura recording is disabled for partner [@PARTNER_ID@]",
	"RECORDED_ENTRY_LIVE_MISMATCH":                     "Recorded entry [@RECORDED@] does not belong to live entry [@ENTRY_ID@]",
	"ASSET_ID_NOT_FOUND":                               `Asset id "@ASSET_ID@" not found`,
	"LOCAL_FILE_NOT_FOUND":                             `Local file "@FILE@" not found`,
	"UPLOAD_TOKEN_NOT_FOUND":                           "Upload token not found",
	"UPLOADED_FILE_NOT_FOUND_BY_TOKEN":                 "The uploaded file was not found by the given token id, or was already used",
	"UPLOAD_TOKEN_INVALID_STATUS_FOR_UPLOAD":           "Upload token is in an invalid status for upload",
	"UPLOAD_TOKEN_CANNOT_RESUME":                       "Cannot resume the upload, original file was not found",
	"UPLOAD_TOKEN_CANNOT_MATCH_EXPECTED_SIZE":          "Uploaded size does not match the expected size",
	"UPLOAD_ERROR":                                     "Upload failed",
	"INVALID_STREAM_NAME":                              "Invalid stream name [@NAME@]",
	"INGEST_NOT_FOUND_IN_CONVERSION_PROFILE":           `Ingest "@NAME@" is not in conversion profile`,
	"CONVERSION_PROFILE_ID_NOT_FOUND":                  "Conversion profile id [@ID@] not found",
	"FLAVOR_PARAMS_ID_NOT_FOUND":                       "Flavor params id [@ID@] not found",
	"PERMISSION_NOT_FOUND":                             "Permission [@NAME@] not found",
	"INTERNAL_SERVERL_ERROR":                           "Internal server error occurred",
}

// fail makes a failure of the table's message; args are pairs of name and
// value.
func fail(code string, args ...string) *failure {
	f := &failure{code: code, message: failures[code], args: map[string]string{}}
	for i := 0; i+1 < len(args); i += 2 {
		f.args[args[i]] = args[i+1]
		f.message = strings.ReplaceAll(f.message, "@"+args[i]+"@", args[i+1])
	}
	if f.message == "" {
		f.message = fmt.Sprintf("error %s on demand", code)
	}
	return f
}
