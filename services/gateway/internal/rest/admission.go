package rest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
	optionsv1 "tollmesh.dev/gen/go/payments/options/v1"
)

const (
	// HeaderBytesMax bounds the headers of a request.
	HeaderBytesMax = 32 << 10
	// metadataBytesMax bounds those headers that travel on: the mesh takes 16 KiB of metadata, ours included.
	metadataBytesMax = 8 << 10
	// hoursMax is the longest deadline that is passed on, about eleven years: more of them overflow a clock.
	hoursMax = 99_999

	timeoutHeader = "Grpc-Timeout"
)

// travelling are the headers that travel to the mesh.
var travelling = []string{
	"Authorization", idempotencyKeyHeader, requestIDHeader, "Traceparent", "Tracestate", "If-Match", "X-Forwarded-For",
	"X-Forwarded-Host", "Host",
}

// admit refuses what no route can read. What it lets through is UTF-8 and says each thing once.
func admit(r *http.Request) error {
	if err := admitEncoding(r.Header); err != nil {
		return err
	}
	if _, err := single(r.Header, requestIDHeader); err != nil {
		return err
	}
	if keys := r.Header.Values(idempotencyKeyHeader); len(keys) > 0 {
		for _, key := range keys[1:] {
			if key != keys[0] {
				return keysDiffer(keys[0], key)
			}
		}
		r.Header.Set(idempotencyKeyHeader, keys[0])
	}
	size := 0
	for _, name := range travelling {
		for _, value := range r.Header.Values(name) {
			size += len(value)
		}
	}
	if size > metadataBytesMax {
		return withHTTP(http.StatusRequestHeaderFieldsTooLarge, headersTooLarge(metadataBytesMax))
	}
	if err := admitTimeout(r.Header); err != nil {
		return err
	}
	return admitTarget(r)
}

// single is the value of a header that says one thing, however often it does. Which of two values counts would be a guess.
func single(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if slices.ContainsFunc(values, func(value string) bool { return value != values[0] }) {
		return "", invalid(shown(name), "this header was sent twice with different values; send it once")
	}
	return header.Get(name), nil
}

func keysDiffer(one, other string) error {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_MISMATCH,
		"header Idempotency-Key was sent twice with different keys; send only one",
		map[string]string{"header": one, "field": other}).Err()
}

// timeouts is the form of a Grpc-Timeout.
var timeouts = regexp.MustCompile(`^([0-9]{1,8})([HMSmun])$`)

func admitTimeout(header http.Header) error {
	value, err := single(header, timeoutHeader)
	if err != nil || value == "" {
		return err
	}
	found := timeouts.FindStringSubmatch(value)
	if found == nil {
		return invalid(timeoutHeader, fmt.Sprintf("%q is not a time span such as 500m (milliseconds) or 20S", shown(value)))
	}
	switch span, err := strconv.Atoi(found[1]); {
	case err != nil:
		return err // eight digits at most are a number
	case span == 0:
		header.Set(timeoutHeader, "1n") // over, as gRPC has it; the runtime takes zero for none
	case found[2] == "H" && span > hoursMax:
		header.Set(timeoutHeader, fmt.Sprintf("%dH", hoursMax))
	}
	return nil
}

// admitTarget sees to it that path and query read, as UTF-8.
func admitTarget(r *http.Request) error {
	if !utf8.ValidString(r.URL.Path) {
		return invalid("path", "it is not valid percent-encoded UTF-8")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query", `it is malformed: separate parameters with &, and percent-encode other special characters`)
	}
	for name, values := range query {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(value string) bool { return !utf8.ValidString(value) }) {
			return invalid("query", "it is not UTF-8, percent-encoded")
		}
	}
	return nil
}

// invalid refuses one part of a request.
func invalid(field, description string) error {
	return invalidField(field, field+": "+description, description).Err()
}

func invalidField(field, message, description string) *status.Status {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_INVALID_FIELD, message, map[string]string{"fields": field},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: description},
		}})
}

// patternOf is a path template as the runtime spells it: `{charge_id}` is short for `{charge_id=*}`.
func patternOf(template string) string {
	return pathVariable.ReplaceAllStringFunc(template, func(variable string) string {
		if strings.Contains(variable, "=") {
			return variable
		}
		return strings.TrimSuffix(variable, "}") + "=*}"
	})
}

// refuseQueries keeps routes that read no query from passing over one: who writes `?validate_only=true` beside a body
// must not be taken to have said nothing.
func refuseQueries() runtime.Middleware {
	without := map[string]bool{}
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if verb, template := methodAndPath(rule); !readsQuery(method.Input(), template, rule.GetBody()) {
			without[verb+" "+patternOf(template)] = true
		}
	})
	return func(next runtime.HandlerFunc) runtime.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
			pattern, known := runtime.HTTPPattern(r.Context())
			if known && len(r.Form) > 0 && without[r.Method+" "+pattern.String()] {
				name := shown(slices.Sorted(maps.Keys(r.Form))[0])
				const description = "this call takes no query parameters, only its path and body"
				refusal := invalidField(name, parameterPrefix+name+": "+description, description)
				writeError(r.Context(), nil, nil, w, r, refusal.Err())
				return
			}
			next(w, r, path)
		}
	}
}

// refuseKeys keeps changes that have no request_id from passing over an Idempotency-Key: who sends one must not be taken
// to have made the call safe to repeat.
func refuseKeys() runtime.Middleware {
	without := map[string]string{}
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if mutates(method) && method.Input().Fields().ByName("request_id") == nil {
			verb, template := methodAndPath(rule)
			without[verb+" "+patternOf(template)] = "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
		}
	})
	return func(next runtime.HandlerFunc) runtime.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
			pattern, known := runtime.HTTPPattern(r.Context())
			if known && r.Header.Get(idempotencyKeyHeader) != "" {
				if method := without[r.Method+" "+pattern.String()]; method != "" {
					writeError(r.Context(), nil, nil, w, r, keyUnused(method))
					return
				}
			}
			next(w, r, path)
		}
	}
}

// mutates tells whether a successful call changes state.
func mutates(method protoreflect.MethodDescriptor) bool {
	rule, ok := proto.GetExtension(method.Options(), optionsv1.E_Access).(*optionsv1.AccessRule)
	return ok && rule.GetMutates()
}

func keyUnused(method string) error {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_UNUSED,
		"this call takes no Idempotency-Key, its items are recognised by ids of their own: give them ids that "+
			"stay the same, leave the header out, and repeat the call as it is",
		map[string]string{"method": method}).Err()
}

// noBody is what a body may be where none is read.
var noBody = regexp.MustCompile(`^\x{FEFF}?\s*(?:\{\s*\}\s*)?$`)

// refuseBodies does the same for routes that read no body.
func refuseBodies() runtime.Middleware {
	without := map[string]string{}
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if rule.GetBody() != "" {
			return
		}
		verb, template := methodAndPath(rule)
		description := "this call takes no body, only its path"
		if readsQuery(method.Input(), template, "") {
			description += " and its query"
		}
		if verb != http.MethodGet && method.Input().Fields().ByName("request_id") != nil {
			description += ", and the key of a request in the header Idempotency-Key"
		}
		without[verb+" "+patternOf(template)] = description
	})
	return func(next runtime.HandlerFunc) runtime.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
			pattern, known := runtime.HTTPPattern(r.Context())
			body, read := r.Context().Value(bodyKey{}).(*requestBody)
			if known && read && body.Size() > 0 {
				description := without[r.Method+" "+pattern.String()]
				if description != "" && !noBody.MatchReader(body) {
					writeError(r.Context(), nil, nil, w, r, invalid("body", description))
					return
				}
			}
			next(w, r, path)
		}
	}
}

// notePath tells the codec what the path says.
func notePath(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		if body, read := r.Context().Value(bodyKey{}).(*requestBody); read {
			body.path = path
		}
		next(w, r, path)
	}
}

// contradiction refuses a body that names something else than its path, which would win in silence.
func contradiction(target any, path map[string]string) error {
	body, ok := target.(proto.Message)
	if !ok {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(path)) {
		called := body.ProtoReflect().New()
		if runtime.PopulateFieldFromPath(called.Interface(), name, path[name]) != nil {
			continue // refused further on
		}
		said, given := valueAt(body.ProtoReflect(), name)
		if named, _ := valueAt(called, name); given && !said.Equal(named) {
			return invalid(name, "the body and the path differ; leave it out of the body, or send the same value")
		}
	}
	return nil
}

// valueAt is what a message holds at a dotted name, and whether it holds anything there.
func valueAt(message protoreflect.Message, name string) (protoreflect.Value, bool) {
	first, rest, deeper := strings.Cut(name, ".")
	field := message.Descriptor().Fields().ByName(protoreflect.Name(first))
	if field == nil || !message.Has(field) {
		return protoreflect.Value{}, false
	}
	value := message.Get(field)
	if deeper {
		return valueAt(value.Message(), rest)
	}
	return value, true
}

// readsQuery tells whether any field of a request is left to its query.
func readsQuery(request protoreflect.MessageDescriptor, template, body string) bool {
	for i := range request.Fields().Len() {
		name := string(request.Fields().Get(i).Name())
		inPath := strings.Contains(template, "{"+name+"}") || strings.Contains(template, "{"+name+"=")
		if body != "*" && name != body && !inPath {
			return true
		}
	}
	return false
}
