package rest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
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
	for _, name := range slices.Sorted(maps.Keys(values)) {
		field := fieldAt(message.ProtoReflect().Descriptor(), name)
		if field == nil || strings.Contains(name, "[") && !field.IsMap() {
			return fmt.Errorf("%s%s: there is no such parameter", parameterPrefix, name)
		}
		// One by one, so that the one at fault is known; the parser's own words are those of Go's libraries.
		if err := s.DefaultQueryParser.Parse(message, url.Values{name: values[name]}, filter); err != nil {
			return fmt.Errorf("%s%s: %q is not %s", parameterPrefix, name, strings.Join(values[name], ", "), expected(field))
		}
	}
	return nil
}

const parameterPrefix = "query parameter "

// parameterFault takes a message of Parse apart: the parameter, and what is wrong with it.
func parameterFault(message string) (name, description string) {
	if rest, found := strings.CutPrefix(message, parameterPrefix); found {
		if name, description, found = strings.Cut(rest, ": "); found {
			return name, description
		}
	}
	return "", message
}

// fieldAt is the field that a dotted name (`period.start_at`, `metadata[key]`) leads to, or nil.
func fieldAt(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	var field protoreflect.FieldDescriptor
	name, _, _ = strings.Cut(name, "[")
	for _, part := range strings.Split(name, ".") {
		if message == nil {
			return nil
		}
		if field = fieldNamed(message, part); field == nil {
			return nil
		}
		message = field.Message()
	}
	return field
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
		return "one text in UTF-8"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch field.Message().FullName() {
		case "google.protobuf.Timestamp":
			return "a time such as 2026-01-31T12:00:00Z"
		case "google.protobuf.Duration":
			return "a time span such as 90s"
		}
		return "a text: name a field of it, as in " + string(field.Name()) + ".x"
	}
	if field.IsList() {
		return "whole numbers"
	}
	return "one whole number that fits"
}
