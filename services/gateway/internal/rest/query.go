package rest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// strictQuery refuses parameters that the request does not know: a filter with a typing error in its name
// must not answer with everything.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse fills the message from the parameters.
func (s strictQuery) Parse(message proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	spelled := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path, field := fieldAt(message.ProtoReflect().Descriptor(), name)
		if field == nil || strings.Contains(name, "[") && !field.IsMap() {
			return parameterError(name, "there is no such parameter")
		}
		if field.IsMap() && strings.Contains(name, "[") && !keyed(name) {
			// The parser passes over such a name: the filter would answer with everything.
			return parameterError(name, "name one key in brackets, as in "+string(field.Name())+"[key]")
		}
		if filter.HasCommonPrefix(path) {
			return parameterError(name, "it is already given by the path or the body; leave it out")
		}
		_, key, _ := strings.Cut(name, "[")
		full := strings.Join(path, ".") + "[" + key
		if other, twice := spelled[full]; twice {
			return parameterError(name, fmt.Sprintf("it is the same parameter as %s; send one of them", other))
		}
		spelled[full] = name
		if times := len(values[name]); times > 1 && !field.IsList() {
			return parameterError(name, fmt.Sprintf("it is given %d times; send it once", times))
		}
		// One by one, so that the one at fault is known; the parser's own words are those of Go's libraries.
		given, err := asGoReads(field, values[name])
		if err == nil && field.Kind() == protoreflect.EnumKind {
			err = fitsEnum(given)
		}
		if err == nil {
			err = s.DefaultQueryParser.Parse(message, url.Values{name: given}, filter)
		}
		if err != nil {
			text := shown(strings.Join(values[name], ", "))
			return parameterError(name, fmt.Sprintf("%q is not %s", text, expected(field))+plusHint(field, values[name]))
		}
	}
	return nil
}

// keyed says whether a name ends with one key in brackets, which has none itself.
func keyed(name string) bool {
	_, key, _ := strings.Cut(name, "[")
	key, closed := strings.CutSuffix(key, "]")
	return closed && !strings.ContainsAny(key, "[]")
}

// asGoReads gives the texts of a parameter, moments as Go's reader takes them: on its own it takes more and less than
// RFC 3339 has.
func asGoReads(field protoreflect.FieldDescriptor, texts []string) ([]string, error) {
	if !isMoment(field) {
		return texts, nil
	}
	read := make([]string, len(texts))
	for i, text := range texts {
		moment, err := rfc3339(text)
		if err != nil {
			return nil, err
		}
		read[i] = moment
	}
	return read, nil
}

// fitsEnum refuses numbers beyond 32 bits: the parser would cut them down to some other value.
func fitsEnum(texts []string) error {
	for _, text := range texts {
		if _, err := strconv.ParseInt(text, 10, 32); errors.Is(err, strconv.ErrRange) {
			return err
		}
	}
	return nil
}

const parameterPrefix = "query parameter "

func parameterError(name, description string) error {
	return fmt.Errorf("%s%s: %s", parameterPrefix, shown(name), description)
}

// plusHint tells of the mistake that a time zone in a query invites.
func plusHint(field protoreflect.FieldDescriptor, texts []string) string {
	spaced := slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, " ") })
	if isMoment(field) && spaced {
		return "; a + means a space in a query: write %2B for the + of a time zone"
	}
	return ""
}

// fieldAt is the field that a dotted name (`period.start_at`, `metadata[key]`) leads to, or nil, and the way there as
// the schema spells it.
func fieldAt(message protoreflect.MessageDescriptor, name string) ([]string, protoreflect.FieldDescriptor) {
	var field protoreflect.FieldDescriptor
	var path []string
	name, _, _ = strings.Cut(name, "[")
	for _, part := range strings.Split(name, ".") {
		if message == nil {
			return nil, nil
		}
		if field = fieldNamed(message, part); field == nil {
			return nil, nil
		}
		path = append(path, string(field.Name()))
		message = field.Message()
	}
	return path, field
}

// expected says in words what a field's text must be.
func expected(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		names := make([]string, 0, field.Enum().Values().Len())
		for i := range field.Enum().Values().Len() {
			names = append(names, string(field.Enum().Values().Get(i).Name()))
		}
		return "one of " + strings.Join(names, ", ")
	case protoreflect.BytesKind:
		return "Base64"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number"
	case protoreflect.StringKind:
		return "a string in UTF-8"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch field.Message().FullName() {
		case "google.protobuf.Timestamp":
			return aTime
		case "google.protobuf.Duration":
			return aTimeSpan
		}
		return "a string: name one of its fields, as in " + string(field.Name()) + ".x"
	}
	if field.IsList() {
		return "whole numbers"
	}
	return "a whole number that fits"
}
