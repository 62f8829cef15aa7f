package rest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// opaqueTypes are the types of an answer's Any messages that this build cannot write as JSON: those of a later release,
// and those that hold what JSON cannot say. Their bytes are written instead, as `{"@type": …, "value": <Base64>}`.
type opaqueTypes struct {
	*protoregistry.Types
	urls map[string]bool
}

// FindMessageByURL says that an opaque type is a message of bytes.
func (o opaqueTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if o.urls[url] {
		return (*wrapperspb.BytesValue)(nil).ProtoReflect().Type(), nil
	}
	return o.Types.FindMessageByURL(url)
}

// Marshal writes an answer. One message that cannot be written must not keep the whole answer from its reader, so an
// answer that fails is written again with its opaque messages as bytes.
func (c *codec) Marshal(answer any) ([]byte, error) {
	text, err := c.JSONPb.Marshal(answer)
	if err == nil {
		return compact(text), nil
	}
	opaque := opaqueTypes{protoregistry.GlobalTypes, map[string]bool{}}
	eachAny(reflect.ValueOf(answer), func(found *anypb.Any) {
		if _, err := protojson.Marshal(found); err != nil && strings.Contains(found.TypeUrl, "/") {
			opaque.urls[found.TypeUrl] = true
		}
	})
	if len(opaque.urls) == 0 {
		return nil, err
	}
	eachAny(reflect.ValueOf(answer), func(found *anypb.Any) {
		if opaque.urls[found.TypeUrl] {
			found.Value, _ = proto.Marshal(wrapperspb.Bytes(found.Value))
		}
	})
	tolerant := c.JSONPb
	tolerant.MarshalOptions.Resolver = opaque
	text, err = tolerant.Marshal(answer)
	return compact(text), err
}

// compact takes the spaces out of JSON: protojson sets them or not by a hash of the program, so that the same answer would
// have other bytes in each build.
func compact(text []byte) []byte {
	var short bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		return text // an answer that failed has no text
	}
	return short.Bytes()
}

// eachAny visits the Any messages of what the generated handlers answer with: a message, a list of them, or the result
// of a stream.
func eachAny(answer reflect.Value, visit func(*anypb.Any)) {
	if !answer.IsValid() {
		return
	}
	if message, ok := answer.Interface().(proto.Message); ok {
		eachAnyOf(message.ProtoReflect(), visit)
		return
	}
	switch answer.Kind() {
	case reflect.Interface:
		eachAny(answer.Elem(), visit)
	case reflect.Slice:
		for i := range answer.Len() {
			eachAny(answer.Index(i), visit)
		}
	case reflect.Map:
		for _, key := range answer.MapKeys() {
			eachAny(answer.MapIndex(key), visit)
		}
	}
}

func eachAnyOf(message protoreflect.Message, visit func(*anypb.Any)) {
	if found, ok := message.Interface().(*anypb.Any); ok {
		visit(found)
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			value.Map().Range(func(_ protoreflect.MapKey, item protoreflect.Value) bool {
				if field.MapValue().Message() != nil {
					eachAnyOf(item.Message(), visit)
				}
				return true
			})
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				eachAnyOf(value.List().Get(i).Message(), visit)
			}
		default:
			eachAnyOf(value.Message(), visit)
		}
		return true
	})
}
