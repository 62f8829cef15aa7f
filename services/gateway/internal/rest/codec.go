package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

// violationsMax bounds how many bad items of a bare array one refusal names.
const violationsMax = 20

// byteOrderMark may stand before a body: some editors put it there. It is no part of the text; the services read it on
// raw bodies.
var byteOrderMark = []byte("\xef\xbb\xbf")

// codec is the JSON of the facade: names as in the schemas, zeros and empty lists written out, unknown
// names refused. It also knows the two bodies that are no plain JSON message: raw ones and bare arrays.
type codec struct {
	runtime.JSONPb
}

func newCodec() *codec {
	return &codec{runtime.JSONPb{
		// Defaults are written, absent messages are not: the OpenAPI description knows no null.
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
}

// NewDecoder reads one request body into whatever the generated handler asks for.
func (c *codec) NewDecoder(source io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(target any) error {
		text, err := io.ReadAll(source)
		if err != nil {
			return err
		}
		body, wrapped := source.(*requestBody)
		if wrapped && body.raw {
			return setRaw(target, text, body.header)
		}
		text = bytes.TrimPrefix(text, byteOrderMark)
		if len(bytes.TrimSpace(text)) == 0 {
			return io.EOF // the generated handlers take an absent body as an empty message
		}
		err = c.decode(text, target)
		if err != nil && wrapped {
			// The handlers flatten errors to text; the body carries the details past them.
			body.fault = err
		}
		return err
	})
}

func (c *codec) decode(text []byte, target any) error {
	if message, ok := target.(proto.Message); ok {
		return c.decodeMessage(text, message)
	}
	if list := reflect.ValueOf(target); list.Kind() == reflect.Pointer && list.Elem().Kind() == reflect.Slice {
		if _, ok := reflect.Zero(list.Elem().Type().Elem()).Interface().(proto.Message); ok {
			return c.decodeList(text, list.Elem())
		}
	}
	return c.Unmarshal(text, target)
}

func (c *codec) decodeMessage(text []byte, message proto.Message) error {
	text, err := quoteDecimals(text, message.ProtoReflect().Descriptor())
	if err != nil {
		return decodeFault{{description: err.Error()}}
	}
	if err := c.UnmarshalOptions.Unmarshal(text, message); err != nil {
		return decodeFault{{description: said(err)}}
	}
	return nil
}

// decodeList reads a bare array item by item, so that a refusal names each item that does not read.
func (c *codec) decodeList(text []byte, list reflect.Value) error {
	var items []json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&items); err != nil {
		return decodeFault{{description: fmt.Sprintf("the body must be a JSON array: %v", notArray(err))}}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return decodeFault{{description: "the body goes on after the array"}}
	}
	var faults decodeFault
	result := reflect.MakeSlice(list.Type(), 0, len(items))
	for index, item := range items {
		element := reflect.New(list.Type().Elem().Elem())
		var fault decodeFault
		if err := c.decodeMessage(item, element.Interface().(proto.Message)); errors.As(err, &fault) {
			faults = append(faults, fieldFault{fmt.Sprintf("[%d]", index), fault[0].description})
		}
		if len(faults) == violationsMax {
			break
		}
		result = reflect.Append(result, element)
	}
	if len(faults) > 0 {
		return faults
	}
	list.Set(result)
	return nil
}

// setRaw hands the bytes of a body over untouched, as the request's field raw_request, and with them the headers that
// say what they are.
func setRaw(target any, text []byte, header http.Header) error {
	if field, ok := target.(*[]byte); ok {
		*field = text
		return nil
	}
	message, ok := target.(proto.Message)
	if !ok {
		return fmt.Errorf("no raw body can be read into %T", target)
	}
	field := contract.RawField(message.ProtoReflect().Descriptor())
	if field == nil {
		return fmt.Errorf("%T has no field raw_request", target)
	}
	message.ProtoReflect().Set(field, protoreflect.ValueOfBytes(text))
	return setHeaders(message.ProtoReflect(), header)
}

// fieldFault says what is wrong with one part of a body; an empty path means the whole.
type fieldFault struct {
	path        string
	description string
}

// decodeFault is a body that does not read as its message.
type decodeFault []fieldFault

func (f decodeFault) Error() string {
	texts := make([]string, len(f))
	for i, fault := range f {
		texts[i] = strings.TrimSpace(fault.path + " " + fault.description)
	}
	return strings.Join(texts, "; ")
}

// notArray says why a body is no JSON array.
func notArray(err error) error {
	var other *json.UnmarshalTypeError
	if errors.As(err, &other) {
		return fmt.Errorf("it is %s", map[string]string{"object": "an object", "string": "a text", "number": "a number",
			"bool": "true or false"}[other.Value])
	}
	return syntax(err)
}
