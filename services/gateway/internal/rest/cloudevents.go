package rest

import (
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

const (
	// nextCursorHeader is where the next page of a bare batch starts.
	nextCursorHeader = "Tollmesh-Next-Cursor"
	// attributePrefix starts the headers that hold the attributes of a CloudEvent in binary mode.
	attributePrefix = "Ce-"
	// batchCodecName stands for batchCodec where the runtime looks for a media type. No caller's header gets that far.
	batchCodecName = "tollmesh/bare-batch"
)

// batchPaths are the routes that answer with a bare batch of CloudEvents when they are asked to.
func batchPaths() map[string]bool {
	paths := map[string]bool{}
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if path := rule.GetGet(); path != "" && contract.BatchField(method) != nil {
			paths[http.MethodGet+" "+path] = true
		}
	})
	return paths
}

// chooseBatch asks for CloudEvents in the caller's stead when its Accept header prefers them.
func chooseBatch(r *http.Request, body *requestBody, accepted []string) {
	wanted := quality(accepted, contract.BatchMediaType)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if wanted == 0 || wanted < quality(accepted, jsonType) || err != nil {
		return // a query that does not read is refused further on
	}
	r.Header.Set("Accept", batchCodecName)
	body.batch = true
	query.Set(contract.RenderingField, contract.CloudEventsRendering)
	changed := *r.URL
	changed.RawQuery = query.Encode()
	r.URL = &changed
}

// quality is how much a caller wants a media type that it names, from 0 to 1.
func quality(accepted []string, mediaType string) float64 {
	for _, part := range strings.Split(strings.Join(accepted, ","), ",") {
		found, parameters, err := mime.ParseMediaType(part)
		if err != nil || found != mediaType {
			continue
		}
		q, set := parameters["q"]
		if !set {
			return 1
		}
		value, err := strconv.ParseFloat(q, 64)
		if err != nil || !(value >= 0 && value <= 1) {
			return 0
		}
		return value
	}
	return 0
}

// batchCodec answers with the batch of a response that has one, as the mesh wrote it; with JSON else.
type batchCodec struct{ *codec }

// ContentType is the media type of an answer.
func (c batchCodec) ContentType(answer any) string {
	if batchOf(answer) != nil {
		return contract.BatchMediaType
	}
	return c.codec.ContentType(answer)
}

// Marshal writes an answer.
func (c batchCodec) Marshal(answer any) ([]byte, error) {
	if batch := batchOf(answer); batch != nil {
		return batch, nil
	}
	return c.codec.Marshal(answer)
}

func batchOf(answer any) []byte {
	message, ok := answer.(proto.Message)
	if !ok {
		return nil
	}
	field := contract.BatchFieldOf(message.ProtoReflect().Descriptor())
	if field == nil || !message.ProtoReflect().Has(field) {
		return nil
	}
	return message.ProtoReflect().Get(field).Bytes()
}

// setHeaders hands the content type and the attributes of a raw body over, to requests that have fields for them. None
// is a list: one that comes twice must be the same.
func setHeaders(message protoreflect.Message, header http.Header) error {
	if field := contract.HookHeaders(message.Descriptor()); field != nil {
		return setHookHeaders(message, field, header)
	}
	contentType, attributes := contract.HeaderFields(message.Descriptor())
	if contentType == nil {
		return nil
	}
	sent, err := textOf(header, "Content-Type")
	if err != nil {
		return err
	}
	message.Set(contentType, protoreflect.ValueOfString(sent))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if !strings.HasPrefix(name, attributePrefix) {
			continue
		}
		value, err := textOf(header, name)
		if err != nil {
			return err
		}
		key := protoreflect.ValueOfString(strings.ToLower(name)).MapKey()
		message.Mutable(attributes).Map().Set(key, protoreflect.ValueOfString(value))
	}
	return nil
}

// textOf is the one value of a header, as text.
func textOf(header http.Header, name string) (string, error) {
	value, err := single(header, name)
	if err == nil && !utf8.ValidString(value) {
		err = invalid(shown(name), "this header is not valid UTF-8; percent-encode it")
	}
	return value, err
}

var _ runtime.Marshaler = batchCodec{}
