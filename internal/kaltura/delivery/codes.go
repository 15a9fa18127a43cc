package delivery

import "strings"

// remedy is what follows from an error of the backend.
type remedy uint8

const (
	// patience: it passes by waiting, or somebody mends the configuration.
	patience remedy = iota + 1
	// somePatience: nobody knows; after a number of tries it is a refusal.
	somePatience
	// failure: the backend failed in the middle; patience, but the piece may be
	// there already.
	failure
	// anew: the upload is of no use any more; patience, with another.
	anew
	// lookUp: the asset is looked up once more, then it is a refusal.
	lookUp
	// whole: the backend takes whole recordings.
	whole
	// refusal: the backend does not want it; somebody has to look.
	refusal
)

// Codes that this server gives itself, and those of the backend it acts on.
const (
	codeFileMissing  = "FILE_MISSING"  // the recorded file is gone
	codeAssetUnknown = "ASSET_UNKNOWN" // no asset of the entry is this rendition's
	codeAssetGone    = "ASSET_ID_NOT_FOUND"
	codeCap          = "LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION"
	codeContentOff   = "KALTURA_RECORDING_DISABLED"
	codeUnseen       = "LOCAL_FILE_NOT_FOUND" // the backend does not see what it was given
)

// ownError is a failure that this server finds itself.
type ownError struct {
	code, message string
	remedy        remedy
}

func (e *ownError) Error() string { return e.message }

// remedies is what to do about the codes of the API that a delivery can meet.
var remedies = map[string]remedy{
	// The backend is in trouble for a moment.
	"INTERNAL_SERVERL_ERROR":  failure, // the backend's own spelling
	"INTERNAL_DATABASE_ERROR": failure,
	"LOCK_TIMED_OUT":          patience,
	"ACTION_BLOCKED":          patience, // too many calls

	// Somebody has to set something right, here or there.
	"INVALID_KS":                        patience,
	"MISSING_KS":                        patience,
	"START_SESSION_ERROR":               patience,
	"SERVICE_FORBIDDEN":                 patience,
	"SERVICE_FORBIDDEN_CONTENT_BLOCKED": patience,
	"SERVICE_ACCESS_CONTROL_RESTRICTED": patience,
	"ACCESS_UNAUTHORIZED":               patience,
	"SERVICE_DOES_NOT_EXISTS":           patience,
	"ACTION_DOES_NOT_EXISTS":            patience,
	"SERVICE_NOT_SPECIFIED":             patience,
	codeUnseen:                          patience, // the shared disk is not mounted there
	"CONVERSION_PROFILE_ID_NOT_FOUND":   patience,

	// Uploads that cannot be continued.
	"UPLOAD_TOKEN_NOT_FOUND":                  anew,
	"UPLOADED_FILE_NOT_FOUND_BY_TOKEN":        anew,
	"UPLOAD_TOKEN_INVALID_STATUS_FOR_UPLOAD":  anew,
	"UPLOAD_TOKEN_CANNOT_RESUME":              anew,
	"UPLOAD_TOKEN_CANNOT_MATCH_EXPECTED_SIZE": anew,
	"UPLOAD_ERROR":                            anew,
	"MAX_ALLOWED_CHUNK_COUNT_EXCEEDED":        anew,

	codeAssetGone:               lookUp,
	"KALTURA_RECORDING_ENABLED": whole,

	// No.
	"UPLOAD_TOKEN_FILE_TYPE_RESTRICTED_FOR_UPLOAD": refusal,
	"FILE_CONTENT_NOT_SECURE":                      refusal,
	"ENTRY_ID_NOT_FOUND":                           refusal,
	"RECORDED_ENTRY_LIVE_MISMATCH":                 refusal,
	"MISSING_MANDATORY_PARAMETER":                  refusal,
	"INVALID_ENUM_VALUE":                           refusal,
	"INVALID_PARAMETER_CHAR":                       refusal,
	"OBJECT_TYPE_ABSTRACT":                         refusal,
	codeCap:                                        refusal,
	codeContentOff:                                 refusal,
}

// remedyOf is the table with what its families have in common.
func remedyOf(code string) remedy {
	if r, known := remedies[code]; known {
		return r
	}
	switch {
	case strings.HasPrefix(code, "INTERNAL_"):
		return failure
	case strings.HasPrefix(code, "UPLOAD_"):
		return anew
	case strings.HasPrefix(code, "PROPERTY_VALIDATION_"):
		return refusal
	}
	return somePatience
}
