package rest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"

	"tollmesh.dev/gateway/internal/contract"
)

const (
	// gzipBytesMin is the smallest answer that is worth compressing.
	gzipBytesMin = 1 << 10
	jsonType     = "application/json"
)

// codingsOf are what a body was put through, by its header; identity is nothing.
func codingsOf(header http.Header) []string {
	var found []string
	for _, name := range strings.Split(strings.ToLower(strings.Join(header.Values("Content-Encoding"), ",")), ",") {
		if name = strings.TrimSpace(name); name != "" && name != "identity" {
			found = append(found, name)
		}
	}
	return found
}

// admitEncoding refuses what is not gzip, or is it more than once.
func admitEncoding(header http.Header) error {
	codings := codingsOf(header)
	if len(codings) == 0 || slices.Equal(codings, []string{"gzip"}) || slices.Equal(codings, []string{"x-gzip"}) {
		return nil
	}
	return encodingUnsupported(shown(strings.ToValidUTF8(strings.Join(header.Values("Content-Encoding"), ", "), "\uFFFD")))
}

func encodingUnsupported(encoding string) error {
	return withHTTP(http.StatusUnsupportedMediaType, fault(
		codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_CONTENT_ENCODING_UNSUPPORTED,
		"this Content-Encoding is not supported: compress the body once with gzip, or send it as it is",
		map[string]string{"content_encoding": encoding}))
}

// decompressed is a gzip body as it was before; its limit is that of a plain one, so that a few bytes cannot fill the memory.
func decompressed(packed []byte, bytesMax int64, held *lease) ([]byte, error) {
	malformed := func() error {
		return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_UNDECODABLE_REQUEST,
			"the body is not valid gzip, or it is incomplete", nil).Err()
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, malformed()
	}
	text, err := io.ReadAll(held.counted(io.LimitReader(reader, bytesMax+1)))
	switch {
	case int64(len(text)) > bytesMax:
		return nil, bodyTooLarge(bytesMax)
	case status.Code(err) == codes.ResourceExhausted:
		return nil, err
	case err != nil:
		return nil, malformed()
	}
	return text, nil
}

// acceptsGzip tells whether a caller reads gzip, as RFC 9110, 12.5.3 has it.
func acceptsGzip(header http.Header) bool {
	chosen, any := -1.0, 0.0
	for _, part := range strings.Split(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(part, ";")
		weight := 1.0
		if key, value, found := strings.Cut(parameters, "="); found && strings.EqualFold(strings.TrimSpace(key), "q") {
			parsed, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(parsed >= 0 && parsed <= 1) {
				continue
			}
			weight = parsed
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			chosen = weight
		case "*":
			any = weight
		}
	}
	if chosen < 0 {
		chosen = any
	}
	return chosen > 0
}

// packers are writers that can be used again: one holds several hundred KiB.
var packers = sync.Pool{New: func() any {
	writer, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // only a level that does not exist
	}
	return writer
}}

// compressed is a body as gzip.
func compressed(body []byte) ([]byte, error) {
	writer := packers.Get().(*gzip.Writer)
	defer packers.Put(writer)
	var out bytes.Buffer
	writer.Reset(&out)
	_, err := writer.Write(body)
	if err = errors.Join(err, writer.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// refuseMediaTypes lets bodies pass that say they are JSON, or say nothing. A form, as curl and browsers send unless
// they are told otherwise, is no JSON: browsers send one to any address without asking.
func refuseMediaTypes() runtime.Middleware {
	free := map[string]bool{}
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if verb, template := methodAndPath(rule); contract.RawField(method.Input()) != nil {
			free[verb+" "+patternOf(template)] = true
		}
	})
	return func(next runtime.HandlerFunc) runtime.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
			pattern, known := runtime.HTTPPattern(r.Context())
			body, read := r.Context().Value(bodyKey{}).(*requestBody)
			if known && read && body.Size() > 0 && !free[r.Method+" "+pattern.String()] {
				if err := admitMediaType(r.Header); err != nil {
					writeError(r.Context(), nil, nil, w, r, err)
					return
				}
			}
			next(w, r, path)
		}
	}
}

// admitMediaType refuses bodies that say they are not JSON in UTF-8.
func admitMediaType(header http.Header) error {
	sent, err := textOf(header, "Content-Type")
	if err != nil || sent == "" {
		return err
	}
	mediaType, parameters, err := mime.ParseMediaType(sent)
	charset, set := parameters["charset"]
	if err == nil && mediaType == jsonType && (!set || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return withHTTP(http.StatusUnsupportedMediaType, fault(
		codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_CONTENT_TYPE_UNSUPPORTED,
		fmt.Sprintf("a body of type %q is not read here: send JSON in UTF-8, as `Content-Type: application/json`", shown(sent)),
		map[string]string{"content_type": shown(sent)}))
}
