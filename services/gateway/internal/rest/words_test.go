package rest

import (
	"strings"
	"testing"

	ledgerv1 "tollmesh.dev/gen/go/payments/ledger/v1"
)

// Whatever is wrong with the JSON of a body is told as that, and where it is, not as a value that misfits a field.
func TestWhatIsNoJSONIsToldSo(t *testing.T) {
	const whole = `{"page_size":5}`
	goesOn := "not valid JSON: at byte 16, behind its end, it goes on"
	for body, wanted := range map[string]string{
		whole + "x":            goesOn,
		whole + whole:          goesOn,
		whole + "]":            goesOn,
		whole + ",":            goesOn,
		whole + `"x`:           goesOn,
		whole + `"\ud800"`:     goesOn,
		whole + "\x00":         goesOn,
		whole + "\xff":         goesOn,
		whole + "\n // more":   "not valid JSON: at byte 18, behind its end, it goes on",
		"null 5":               "not valid JSON: at byte 6, behind its end, it goes on",
		`{"page_size":05}`:     "not valid JSON at byte",
		`{"page_size" 5}`:      "not valid JSON at byte",
		`{"page_size":5,}`:     "not valid JSON at byte",
		`{"page_size":5`:       "not valid JSON: it ends too early",
		"{\"owner\":\"a\nb\"}": "not valid JSON at byte",
	} {
		err := newCodec().decode([]byte(body), &ledgerv1.ListAccountsRequest{})
		if err == nil {
			t.Errorf("%q is read", body)
		} else if !strings.Contains(err.Error(), wanted) {
			t.Errorf("%q: %s, not %s", body, err, wanted)
		}
	}
	for _, body := range []string{whole + " \r\n\t", "\n" + whole} {
		if err := newCodec().decode([]byte(body), &ledgerv1.ListAccountsRequest{}); err != nil {
			t.Errorf("%q: %s", body, err)
		}
	}
}
