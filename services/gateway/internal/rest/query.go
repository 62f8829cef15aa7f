package rest

import (
	"fmt"
	"net/url"
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
	for name := range values {
		if !known(message.ProtoReflect().Descriptor(), name) {
			return fmt.Errorf("unknown query parameter %q", name)
		}
	}
	return s.DefaultQueryParser.Parse(message, values, filter)
}

// known tells whether a dotted name (`period.start_at`, `metadata[key]`) leads to a field.
func known(message protoreflect.MessageDescriptor, name string) bool {
	name, _, _ = strings.Cut(name, "[")
	for _, part := range strings.Split(name, ".") {
		if message == nil {
			return false
		}
		field := fieldNamed(message, part)
		if field == nil {
			return false
		}
		message = field.Message()
	}
	return true
}
