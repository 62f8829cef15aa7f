package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What the libraries say of a body is for those who program with them. Callers get words of ours, that stay the same
// when a library changes its own.

// quotedMax is how much of what a caller sent is shown to it again.
const quotedMax = 80

const (
	aTime     = "a time such as 2026-01-31T12:00:00Z"
	aTimeSpan = "a time span such as 90s"
)

// positioned takes a message of protojson apart: line, column, and what is wrong there.
var positioned = regexp.MustCompile(`^(?:syntax error )?\(line (\d+):(\d+)\): (?s:(.*))$`)

// sayings are what protojson may find, and what we say instead; $1 and $2 are what it says it of.
var sayings = []struct {
	theirs *regexp.Regexp
	ours   func(found []string) string
}{
	{regexp.MustCompile(`^unknown field (.*)$`), func(f []string) string { return "unknown field " + shown(f[1]) }},
	{regexp.MustCompile(`^duplicate (?:field|map key) (.*)$`), func(f []string) string { return shown(f[1]) + " is given twice" }},
	{regexp.MustCompile(`^error parsing (.*), oneof (\S+) is already set$`), func(f []string) string {
		return fmt.Sprintf("%s cannot be combined with another field that was sent: send one of them", shown(f[1]))
	}},
	{regexp.MustCompile(`^invalid value for (\w+) field (\w+): (?s:(.*))$`), func(f []string) string {
		return fmt.Sprintf("field %s: %s is not %s", f[2], shown(f[3]), kindWords[f[1]])
	}},
	{regexp.MustCompile(`^invalid value for (\w+) key: (?s:(.*))$`), func(f []string) string {
		return fmt.Sprintf("key %s is not %s", shown(f[2]), kindWords[f[1]])
	}},
	{regexp.MustCompile(`^(?:invalid )?google\.protobuf\.Timestamp value(?: out of range:)? (.*)$`), func(f []string) string {
		return shown(f[1]) + " is not " + aTime
	}},
	{regexp.MustCompile(`^(?:invalid )?google\.protobuf\.Duration value(?: out of range:)? (.*)$`), func(f []string) string {
		return shown(f[1]) + " is not " + aTimeSpan
	}},
	{regexp.MustCompile(`^unexpected token (?s:(.*))$`), func(f []string) string {
		return shown(f[1]) + " is unexpected here"
	}},
	{regexp.MustCompile(`recursion depth|nested`), func([]string) string { return "it is nested too deeply" }},
	{regexp.MustCompile(`UTF-8`), func([]string) string { return "a string is not valid UTF-8" }},
	// protojson looks for the other half of a pair up to the end of the body. Texts that end too early were told before.
	{regexp.MustCompile(`escape code|EOF`), func([]string) string {
		return `a string has a \ that is not a valid escape, such as half of a surrogate pair`
	}},
	{regexp.MustCompile(`@type|unable to resolve|google\.protobuf\.Any`), func([]string) string {
		return "its @type is not a known message"
	}},
}

// kindWords say what the values of a kind of field are.
var kindWords = map[string]string{
	"bool": "true or false", "string": "a string", "bytes": "Base64", "enum": "one of the names of its enum",
	"float": "a number that fits", "double": "a number that fits",
	"int32": "a whole number that fits", "sint32": "a whole number that fits", "sfixed32": "a whole number that fits",
	"int64": "a whole number that fits", "sint64": "a whole number that fits", "sfixed64": "a whole number that fits",
	"uint32": "a whole number that fits", "fixed32": "a whole number that fits",
	"uint64": "a whole number that fits", "fixed64": "a whole number that fits",
}

// said is what protojson found in a body, in our words.
func said(err error) string {
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
	place := ""
	if found := positioned.FindStringSubmatch(text); found != nil {
		place, text = fmt.Sprintf("line %s, column %s: ", found[1], found[2]), found[3]
	}
	for _, saying := range sayings {
		if found := saying.theirs.FindStringSubmatch(text); found != nil {
			return place + saying.ours(found)
		}
	}
	return place + "the value does not fit its field"
}

// syntax says where a body stops to be JSON.
func syntax(err error) error {
	var fault *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not valid JSON: it ends too early")
	case errors.As(err, &fault):
		return fmt.Errorf("not valid JSON at byte %d", fault.Offset)
	}
	return errors.New("not valid JSON")
}

// shown is a piece of what was sent, cut to a length that fits a sentence.
func shown(text string) string {
	if len(text) <= quotedMax {
		return text
	}
	end := quotedMax
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
