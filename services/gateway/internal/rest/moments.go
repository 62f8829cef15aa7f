package rest

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// fractionMax is how many digits of a second a Timestamp holds.
const fractionMax = 9

// moments are those of RFC 3339. Go's own reader takes hours of one digit, a comma before the fraction and zones of 24
// hours besides. There are no leap seconds: a Timestamp cannot hold one.
var moments = regexp.MustCompile(
	`^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-5][0-9])(\.[0-9]{1,100})?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$`)

// isMoment tells whether a field holds a moment.
func isMoment(field protoreflect.FieldDescriptor) bool {
	message := field.Message()
	return message != nil && message.FullName() == "google.protobuf.Timestamp"
}

// rfc3339 gives a moment as Go reads it, digits beyond a Timestamp's cut off.
func rfc3339(text string) (string, error) {
	parts := moments.FindStringSubmatch(text)
	if parts != nil {
		fraction := parts[3]
		if len(fraction) > 1+fractionMax {
			fraction = fraction[:1+fractionMax]
		}
		read := parts[1] + "T" + parts[2] + fraction + strings.ToUpper(parts[4])
		if at, err := time.Parse(time.RFC3339Nano, read); err == nil && at.UTC().Year() >= 1 && at.UTC().Year() <= 9999 {
			return read, nil
		}
	}
	return "", fmt.Errorf("%q is not an RFC 3339 time in the years 1 to 9999, such as 2026-11-20T10:00:00Z",
		shortened(text, 64))
}
