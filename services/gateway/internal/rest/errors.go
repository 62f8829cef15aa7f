package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
)

const errorDomain = "tollmesh.dev"

// authenticate is the challenge of a 401. The runtime would put the error's message there, which may
// hold what no header should.
const authenticate = `Bearer realm="tollmesh"`

// fault builds an error of the facade's own, with the ErrorInfo that every error carries. Reason and keys are written out
// at each call: a test holds them against what errors.proto says of the reason.
func fault(code codes.Code, reason errorsv1.ErrorReason, message string, metadata map[string]string,
	details ...protoadapt.MessageV1) *status.Status {
	info := &errdetails.ErrorInfo{Reason: reasonName(reason), Domain: errorDomain, Metadata: metadata}
	full, err := status.New(code, message).WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil {
		return status.New(code, message) // only an OK status refuses details
	}
	return full
}

// reasonName is a reason without the prefix of its enum, as ErrorInfo spells it.
func reasonName(reason errorsv1.ErrorReason) string {
	return strings.TrimPrefix(reason.String(), "ERROR_REASON_")
}

// withHTTP answers an error with another HTTP status than the one of its gRPC code.
func withHTTP(code int, fault *status.Status) error {
	return &runtime.HTTPStatusError{HTTPStatus: code, Err: fault.Err()}
}

func overloaded(inFlightMax int) error {
	return fault(codes.ResourceExhausted, errorsv1.ErrorReason_ERROR_REASON_OVERLOADED,
		"too many concurrent calls; try again in a second",
		map[string]string{"limit": strconv.Itoa(inFlightMax)},
		&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1}}).Err()
}

func tooManyBytes(bytesMax int) error {
	return fault(codes.ResourceExhausted, errorsv1.ErrorReason_ERROR_REASON_OVERLOADED,
		"too many bytes of bodies are under way; try again in a second, with fewer calls at a time",
		map[string]string{"limit": strconv.Itoa(bytesMax)},
		&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1}}).Err()
}

func meshTokenOutside() error {
	return fault(codes.Unauthenticated, errorsv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		"mesh tokens are only for services; send an API key: `Authorization: Bearer <key>`",
		map[string]string{"cause": "mesh_token_outside"}).Err()
}

func bodyTooLarge(bytesMax int64) error {
	return withHTTP(http.StatusRequestEntityTooLarge, fault(
		codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
		fmt.Sprintf("the body is larger than %d bytes; split it", bytesMax),
		map[string]string{"bytes_max": strconv.FormatInt(bytesMax, 10)}))
}

func batchTooLarge() error {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE,
		fmt.Sprintf("more than %d items in one call; send at most %d", itemsMax, itemsMax),
		map[string]string{"items": fmt.Sprintf("more than %d", itemsMax), "items_max": strconv.Itoa(itemsMax)}).Err()
}

// bodyFault says why a body could not be read to its end.
func bodyFault(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return bodyTooLarge(tooLarge.Limit)
	case status.Code(err) == codes.ResourceExhausted: // ours
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return withHTTP(http.StatusRequestTimeout, fault(
			codes.DeadlineExceeded, errorsv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			"the body did not arrive in time", nil))
	}
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_UNDECODABLE_REQUEST,
		"the body is incomplete, or its chunked encoding is malformed", nil).Err()
}

// writeError answers with the google.rpc.Status of an error.
func writeError(ctx context.Context, mux *runtime.ServeMux, marshaler runtime.Marshaler,
	w http.ResponseWriter, r *http.Request, err error) {
	complete := complete(ctx, err, w.Header().Get(requestIDHeader))
	httpStatus := runtime.HTTPStatusFromCode(complete.Code())
	var chosen *runtime.HTTPStatusError
	if errors.As(err, &chosen) {
		httpStatus = chosen.HTTPStatus
	}
	switch reasonOf(complete) { // of what gRPC has no code for
	case reasonName(errorsv1.ErrorReason_ERROR_REASON_CLOUD_EVENTS_CONTENT_TYPE):
		httpStatus = http.StatusUnsupportedMediaType
	case reasonName(errorsv1.ErrorReason_ERROR_REASON_STORAGE_LOW):
		httpStatus = http.StatusServiceUnavailable // not the caller's doing, as 429 would say
	case reasonName(errorsv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE):
		if hasBody(ctx) { // else it is the answer that was too large
			httpStatus = http.StatusRequestEntityTooLarge
		}
	}
	header := w.Header()
	if answered, ok := runtime.ServerMetadataFromContext(ctx); ok {
		// An error may come without initial metadata; then all of it is in the trailer.
		for _, value := range append(answered.HeaderMD.Get("retry-after"), answered.TrailerMD.Get("retry-after")...) {
			header.Set("Retry-After", value)
		}
	}
	if delay := retryDelay(complete); delay != "" && header.Get("Retry-After") == "" {
		header.Set("Retry-After", delay)
	}
	if complete.Code() == codes.Unauthenticated {
		header.Set("WWW-Authenticate", authenticate)
	}
	if httpStatus == http.StatusUnsupportedMediaType && reasonOf(complete) == reasonName(errorsv1.ErrorReason_ERROR_REASON_CONTENT_ENCODING_UNSUPPORTED) {
		header.Set("Accept-Encoding", "gzip") // RFC 9110, 15.5.16
	}
	header.Set("Content-Type", "application/json")
	text := render(complete)
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(httpStatus)
	_, _ = w.Write(text) // a client that has gone needs no answer
}

// render writes a status as JSON; details of types that this build does not know are left out, since one of
// them would fail the whole.
func render(s *status.Status) []byte {
	options := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}
	message := s.Proto()
	message.Details = slices.DeleteFunc(message.Details, func(detail *anypb.Any) bool {
		_, err := detail.UnmarshalNew()
		return err != nil
	})
	text, err := options.Marshal(message)
	if err != nil {
		// Text that is no UTF-8 is all that is left to fail.
		return []byte(fmt.Sprintf(`{"code": %d, "message": "the error cannot be shown", "details": []}`, s.Code()))
	}
	return compact(text)
}

// reasonOf is the reason of a status' ErrorInfo; empty without one.
func reasonOf(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// hasBody tells whether a call came with a body.
func hasBody(ctx context.Context) bool {
	body, ok := ctx.Value(bodyKey{}).(*requestBody)
	return !ok || body.Size() > 0
}

// retryDelay is RetryInfo in the whole seconds of a Retry-After header, rounded up; empty without one.
func retryDelay(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			delay := info.GetRetryDelay()
			seconds := delay.GetSeconds()
			if delay.GetNanos() > 0 {
				seconds++
			}
			return strconv.FormatInt(max(seconds, 1), 10)
		}
	}
	return ""
}

// complete gives an error the ErrorInfo that it lacks: errors of the generated code and of the transport
// come without one, those of the services never do.
func complete(ctx context.Context, err error, requestID string) *status.Status {
	if body, ok := ctx.Value(bodyKey{}).(*requestBody); ok && body.fault != nil {
		if told, ok := status.FromError(body.fault); ok {
			return told
		}
		return undecodable(ctx, body.fault)
	}
	var chosen *runtime.HTTPStatusError
	if errors.As(err, &chosen) {
		err = chosen.Err
	}
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			return s
		}
	}
	return explained(ctx, s, requestID)
}

// explained finds the reason of an error that came without one. Its message is that of a library or of the transport:
// what it means is said in words of ours.
func explained(ctx context.Context, s *status.Status, requestID string) *status.Status {
	method, _ := runtime.RPCMethod(ctx)
	service := strings.Split(strings.TrimPrefix(method, "/"), "/")[0]
	switch s.Code() {
	case codes.InvalidArgument:
		field, description := misread(ctx, s.Message())
		message := description
		if field != "" {
			message = field + ": " + description
		}
		return invalidField(field, message, description)
	case codes.Unavailable:
		return unreachable(service)
	case codes.DeadlineExceeded:
		return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			"the call did not finish before its deadline", map[string]string{"method": method})
	case codes.ResourceExhausted:
		if !strings.Contains(s.Message(), "larger than max") {
			// The server's own bound on open calls.
			return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_OVERLOADED,
				"the mesh is at its limit of concurrent calls; try again in a second", nil,
				&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1}})
		}
		if hasBody(ctx) {
			return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
				"the request is too large for one call; split it", nil)
		}
		return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
			"the response is too large for one call; ask for less at a time", nil)
	case codes.Unimplemented:
		return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_NO_ROUTE,
			"the mesh does not serve this call", map[string]string{"path": method})
	case codes.Canceled:
		if ctx.Err() != nil { // nobody is there to read this
			return fault(s.Code(), errorsv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
				"the caller cancelled the call", map[string]string{"method": method})
		}
		return unreachable(service)
	}
	return ourFault(requestID)
}

func unreachable(service string) *status.Status {
	return fault(codes.Unavailable, errorsv1.ErrorReason_ERROR_REASON_DEPENDENCY_UNAVAILABLE,
		"the mesh is unavailable; the same call can be repeated safely",
		map[string]string{"service": service},
		&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1}})
}

func ourFault(requestID string) *status.Status {
	return fault(codes.Internal, errorsv1.ErrorReason_ERROR_REASON_INTERNAL,
		"internal error; repeating the same request is safe, nothing is done twice. Give the operator request id "+requestID,
		map[string]string{"request_id": requestID})
}

// pathFault is what the generated code says of a part of the path.
var pathFault = regexp.MustCompile(`^(?:type mismatch, parameter: |missing parameter )([a-z0-9_.]+)`)

// misread takes apart what a parser said: the parameter, and what is wrong with it. Words of parsers other than ours
// are dropped.
func misread(ctx context.Context, message string) (field, description string) {
	if rest, found := strings.CutPrefix(message, parameterPrefix); found {
		if name, description, found := strings.Cut(rest, ": "); found {
			return name, description
		}
	}
	if found := pathFault.FindStringSubmatch(message); found != nil {
		if method := methodOf(ctx); method != nil {
			if _, field := fieldAt(method.Input(), found[1]); field != nil {
				return found[1], "its value in the path is not " + expected(field)
			}
		}
		return found[1], "its value in the path is malformed"
	}
	return "", "the request is malformed; see /openapi.json"
}

// undecodable names each part of a body that does not read.
func undecodable(ctx context.Context, cause error) *status.Status {
	path, _ := runtime.RPCMethod(ctx)
	request := "the request"
	if method := methodOf(ctx); method != nil {
		request = string(method.Input().FullName())
	}
	var parts decodeFault
	if !errors.As(cause, &parts) {
		parts = decodeFault{{description: cause.Error()}}
	}
	violations := &errdetails.BadRequest{}
	for _, part := range parts {
		violations.FieldViolations = append(violations.FieldViolations,
			&errdetails.BadRequest_FieldViolation{Field: part.path, Description: part.description})
	}
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_UNDECODABLE_REQUEST,
		fmt.Sprintf("the body is not a valid %s: %v", request, parts),
		map[string]string{"method": path}, violations)
}

// methodOf is the RPC that a call was routed to, or nil.
func methodOf(ctx context.Context) protoreflect.MethodDescriptor {
	path, _ := runtime.RPCMethod(ctx)
	return methodAt(path)
}

// methodAt is the RPC at a path of gRPC, or nil.
func methodAt(path string) protoreflect.MethodDescriptor {
	name := strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	descriptor, _ := found.(protoreflect.MethodDescriptor)
	return descriptor
}

// writeRoutingError answers calls that no annotation covers.
func writeRoutingError(ctx context.Context, mux *runtime.ServeMux, marshaler runtime.Marshaler,
	w http.ResponseWriter, r *http.Request, httpStatus int) {
	verb := r.Method
	if body, ok := ctx.Value(bodyKey{}).(*requestBody); ok {
		verb = body.verb
	}
	err := withHTTP(httpStatus, fault(codes.NotFound, errorsv1.ErrorReason_ERROR_REASON_NO_ROUTE,
		fmt.Sprintf("there is no %s %s; see /openapi.json", verb, r.URL.Path),
		map[string]string{"method": verb, "path": r.URL.Path}))
	if httpStatus == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", strings.Join(allowedMethods(r.URL.Path), ", "))
		err = withHTTP(httpStatus, fault(
			codes.Unimplemented, errorsv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED,
			fmt.Sprintf("%s does not take %s; see /openapi.json", r.URL.Path, verb),
			map[string]string{"method": verb, "path": r.URL.Path}))
	}
	writeError(ctx, mux, marshaler, w, r, err)
}

// streamError is an error in the middle of a stream, as its last line.
func streamError(ctx context.Context, err error) *status.Status {
	return complete(ctx, err, answeredID(ctx))
}
