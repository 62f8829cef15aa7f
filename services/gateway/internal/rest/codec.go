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
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

const (
	// violationsMax bounds how many bad items of a bare array one refusal names.
	violationsMax = 20
	// itemsMax is the largest batch that any call takes: what stands behind it is not looked at.
	itemsMax = 10_000
	// unreadableField is where an item, or its batch, says why it could not be read, of messages whose service judges item
	// by item.
	unreadableField = "unreadable"
	// unreadableMax is how many bytes it may say.
	unreadableMax = 500
	// requestIDMax is how much of the id of an item that does not read is handed on.
	requestIDMax = 128
)

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
			body.fault = setRaw(target, text, body.header)
			return body.fault
		}
		text = bytes.TrimPrefix(text, byteOrderMark)
		if len(bytes.TrimSpace(text)) == 0 {
			return io.EOF // the generated handlers take an absent body as an empty message
		}
		err = c.decode(text, target)
		if wrapped {
			if err == nil {
				err = contradiction(target, body.path)
			}
			// The handlers flatten errors to text; the body carries the details past them.
			body.fault = err
		}
		return err
	})
}

func (c *codec) decode(text []byte, target any) error {
	if message, ok := target.(proto.Message); ok {
		err := c.decodeMessage(text, message)
		if fault := (decodeFault{}); errors.As(err, &fault) {
			return c.decodeItems(text, message, err)
		}
		return err
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
	if _, typed := status.FromError(err); err != nil && typed {
		return err
	}
	if err != nil {
		return decodeFault{{description: err.Error()}}
	}
	if err := c.UnmarshalOptions.Unmarshal(text, message); err != nil {
		return decodeFault{{description: said(err)}}
	}
	return nil
}

// decodeList reads a bare array item by item. An item that does not read goes on to the service as far as it does, to be
// rejected there alone; where a message has no place for that, the refusal names each such item.
func (c *codec) decodeList(text []byte, list reflect.Value) error {
	items, err := split(text)
	if err != nil {
		return err
	}
	var faults decodeFault
	result := reflect.MakeSlice(list.Type(), 0, len(items))
	for index, item := range items {
		element := reflect.New(list.Type().Elem().Elem())
		var fault decodeFault
		message := element.Interface().(proto.Message)
		if err := c.decodeMessage(item, message); err != nil {
			if !errors.As(err, &fault) {
				return err
			}
			if !tellUnreadable(message.ProtoReflect(), item, fault[0].description) {
				faults = append(faults, fieldFault{fmt.Sprintf("[%d]", index), fault[0].description})
			}
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

// split cuts a JSON array into its items, up to the first that is too much for any call. It goes by brackets and quotes
// alone, so that an item that is no JSON, such as one with NaN in it, is told by itself.
func split(text []byte) ([][]byte, error) {
	notAnArray := func(why any) error {
		return decodeFault{{description: fmt.Sprintf("the body must be a JSON array: %v", why)}}
	}
	start, err := json.NewDecoder(bytes.NewReader(text)).Token()
	if err != nil {
		return nil, notAnArray(syntax(err))
	}
	if start != json.Delim('[') {
		return nil, notAnArray("it is " + kindOf(start))
	}
	misplaced := func(at int) error {
		if at >= len(text) {
			return notAnArray(syntax(io.ErrUnexpectedEOF))
		}
		return notAnArray(fmt.Sprintf("not valid JSON at byte %d", at+1))
	}
	var items [][]byte
	at := behindSpace(text, bytes.IndexByte(text, '[')+1)
	for at == len(text) || text[at] != ']' || len(items) > 0 {
		end := behindValue(text, at)
		if end == at {
			return nil, misplaced(at)
		}
		if len(items) == itemsMax {
			return nil, batchTooLarge()
		}
		items = append(items, text[at:end])
		if at = behindSpace(text, end); at == len(text) || text[at] != ',' && text[at] != ']' {
			return nil, misplaced(at)
		}
		if text[at] == ']' {
			break
		}
		at = behindSpace(text, at+1)
	}
	if behindSpace(text, at+1) < len(text) {
		return nil, decodeFault{{description: "something follows after the array"}}
	}
	return items, nil
}

func behindSpace(text []byte, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
		at++
	}
	return at
}

// behindValue is where a value ends, be it JSON or not; where it starts when there is none, and the end of the text when
// it does not end.
func behindValue(text []byte, at int) int {
	level := 0
	for start := at; at < len(text); {
		switch text[at] {
		case '"':
			at = behindText(text, at)
		case '[', '{':
			level, at = level+1, at+1
		case ']', '}':
			if level == 0 {
				return at
			}
			level, at = level-1, at+1
		case ',', ':', ' ', '\t', '\r', '\n':
			if level == 0 {
				return at
			}
			at++
			continue
		default:
			if at++; level == 0 && at < len(text) && strings.IndexByte("\"[{", text[at]) < 0 {
				continue
			}
		}
		if level == 0 && at > start {
			return at
		}
	}
	return at
}

// behindText is where a text in quotes ends.
func behindText(text []byte, at int) int {
	for at++; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return len(text)
}

// tellUnreadable makes of a message one that says why it could not be read, with its id if that does; false when the
// message has no field for it.
func tellUnreadable(message protoreflect.Message, item []byte, why string) bool {
	field := message.Descriptor().Fields().ByName(unreadableField)
	if field == nil {
		return false
	}
	proto.Reset(message.Interface())
	message.Set(field, protoreflect.ValueOfString(shortened(why, unreadableMax)))
	if requestID := message.Descriptor().Fields().ByName("request_id"); requestID != nil {
		message.Set(requestID, protoreflect.ValueOfString(shortened(idOf(item), requestIDMax)))
	}
	return true
}

// idOf is the request id of an item that does not read; empty unless it stands before what is wrong.
func idOf(item []byte) (id string) {
	decoder := json.NewDecoder(bytes.NewReader(item))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return ""
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return id
		}
		var value any
		if decoder.UseNumber(); decoder.Decode(&value) != nil {
			return id
		}
		if text, ok := value.(string); ok && id == "" && (name == "request_id" || name == "requestId") {
			id = text
		}
	}
	return id
}

// shortened cuts a text to so many bytes, between characters.
func shortened(text string, bytesMax int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= bytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:bytesMax], "")
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

// kindOf names what a JSON text holds, by its first token.
func kindOf(token json.Token) string {
	switch token.(type) {
	case json.Delim:
		return "an object"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case nil:
		return "null"
	}
	return "a number"
}
