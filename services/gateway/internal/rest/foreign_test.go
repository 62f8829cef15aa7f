package rest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
)

// foreign is how Go and its libraries speak.
var foreign = regexp.MustCompile(`proto: |protojson|strconv\.|http: |grpc: |rpc error|json: |net/http|goroutine|` +
	`syntax error \(|invalid character '|unexpected EOF|context canceled|connection refused|dial tcp|RST_STREAM|` +
	`type mismatch|looking for beginning|cannot unmarshal|invalid URL escape|google\.protobuf\.|unexpected token|` +
	`mime: |400 Bad Request\z|transport: |unmarshal|parsing time|value out of range|ParseInt|nil pointer|panic`)

// wantOurs fails the test unless an error is typed and in words of ours.
func (r reply) wantOurs() {
	r.t.Helper()
	var status struct {
		Code    int
		Message string
		Details []struct{ Reason, Domain string }
	}
	if r.status < 400 {
		return
	}
	if err := json.Unmarshal(r.body, &status); err != nil || status.Code == 0 || status.Message == "" ||
		len(status.Details) == 0 || status.Details[0].Reason == "" || status.Details[0].Domain != errorDomain {
		r.t.Errorf("%d: not typed (%v): %.300s", r.status, err, r.body)
	}
	if r.header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%d: Content-Type %q", r.status, r.header.Get("Content-Type"))
	}
	if found := foreign.Find(r.body); found != nil {
		r.t.Errorf("%d: %q is not how we speak: %.300s", r.status, found, r.body)
	}
}

// oddBodies do not read, each in its own way.
var oddBodies = []string{
	`{`, `[`, `]`, `x`, `"`, `nul`, `{"a"`, `{"a":`, `{"a": 1,}`, `{,}`, `[1,]`, `{"a": tru}`, "\xff", `{"\ud800": 1}`,
	`{"org_id": "\ud800"}`, `{"org_id": "\x"}`, `{"org_id": "a` + "\n" + `"}`, `{"org_id": 5}`, `{"org_id": null, "org_id": ""}`,
	`{"org_id": ["a"]}`, `{"org_id": {}}`, `{"org_id": "a"} {}`, `{"org_id": "a"} // c`, `{'org_id': 'a'}`, `null`, `true`,
	`5`, `"text"`, `1e999`, `NaN`, `{"period": {"start_at": "yesterday"}}`, `{"period": {"start_at": "10000-01-01T00:00:00Z"}}`,
	`{"period": {"start_at": 5}}`, `{"period": {"start_at": "2026-01-01T00:00:00+99:99"}}`, `{"period": 5}`, `{"period": []}`,
	`{"org_id": "a", "orgId": "b"}`, `{"lifetime": "1"}`, `{"lifetime": "99999999999999999999s"}`, `{"page_size": 1.5}`,
	`{"page_size": "1e99"}`, `{"events": 5}`, `{"events": [5]}`, `{"data": {"a": 1e999}, "json": ""}`, `{"json": "§"}`,
	`{"message": {"@type": 5}}`, `{"message": {"@type": "x"}}`, `{"message": {}}`, `{"message": {"a": 1}}`,
	`{"validate_only": "true"}`, `{"validate_only": 1}`, `{"catalog": {"skus": [{"type": "NO"}]}}`,
	`{"catalog": {"skus": [{"sku": "a", "sku": "b"}]}}`, `{"config": {"methods": [{"priority": 1e30}]}}`,
	`{"disabled": null}`, `{"concurrency": -1}`, `{"external_request": {"a": NaN}}`, `{"metadata": {"a": 1}}`,
	strings.Repeat(`{"period":`, 300), strings.Repeat(`[`, 300), strings.Repeat(`{"catalog": `, 80) + strings.Repeat(`}`, 80),
	"\xfe\xff\x00{\x00}", "\xef\xbb\xbf{", "\xef\xbb\xbf\xef\xbb\xbf{}",
}

// Every route, every odd body, every odd piece of a path and of a query: all refusals are typed, in our words.
func TestLibrariesNeverSpeakToCallers(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	eachRule(func(_ protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		method, template := methodAndPath(rule)
		path := pathVariable.ReplaceAllString(template, "x")
		for _, body := range oddBodies {
			switch rule.GetBody() {
			case "":
			case "*":
				client.do(method, path, body).wantOurs()
			default:
				client.do(method, path, "["+body+"]").wantOurs()
			}
		}
		for _, query := range []string{
			"page_size=x", "page_size=99999999999", "page_size=1&pageSize=1", "a=%zz", "%zz", "a;b", "page_size=%ff", "%ff",
			"period.start_at=x", "period=x", "version=x", "due_before=2026-01-01T00:00:00+01:00", "type=NO", "status=NO",
			"unknown=1", "page_size[=1", "page_size[a]=1", "=1", "rendering=x", "newest_first=x", "after=%00", "?",
		} {
			client.do(method, path+"?"+query, "").wantOurs()
		}
		for _, piece := range []string{"%ff", "%c0%80", "%00", "%2F", "a%20b", "%ed%a0%80", ":", "x:y", "..", "%25"} {
			client.do(method, pathVariable.ReplaceAllString(template, piece), "{}").wantOurs()
		}
		for _, other := range []string{"GET", "POST", "DELETE", "OPTIONS", "X"} {
			client.do(other, path, "").wantOurs()
			client.do(other, path+"/", "").wantOurs()
		}
	})
}

// The same with bytes that nobody thought of, and the same ones in each run.
func TestLibrariesNeverSpeakOfRandomBodies(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	dice := rand.New(rand.NewPCG(1, 2))
	seeds := append([]string{`{"org_id": "acme", "period": {"start_at": "2026-01-01T00:00:00Z", "end_at": "2026-02-01T00:00:00Z"}}`}, oddBodies...)
	for range 300 {
		body := []byte(seeds[dice.IntN(len(seeds))])
		for range 1 + dice.IntN(3) {
			at := dice.IntN(len(body))
			switch dice.IntN(3) {
			case 0:
				body[at] = byte(dice.IntN(256))
			case 1:
				body = append(body[:at:at], body[min(at+1+dice.IntN(4), len(body)):]...)
			default:
				body = append(body[:at:at], append([]byte(seeds[dice.IntN(len(seeds))]), body[at:]...)...)
			}
			if len(body) == 0 {
				break
			}
		}
		client.do("POST", "/v1/billing/charges", string(body)).wantOurs()
		client.do("POST", "/v1/pricing/catalog", string(body)).wantOurs()
	}
}

// What the transport says of the mesh is told in our words too, whatever its code.
func TestLibrariesNeverSpeakThroughTheMesh(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		mesh := newMesh(t, map[string]answer{chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return nil, status.Error(code, "transport: rpc error: proto: dial tcp 127.0.0.1:1: connection refused")
		}})
		answer := newClient(t, mesh.address, defaults).do("POST", "/v1/billing/charges", "{}")
		if answer.wantOurs(); answer.status < 400 {
			t.Errorf("%s became %d", code, answer.status)
		}
	}
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	client.do("GET", "/healthz?service=nobody", "").wantOurs()
	mesh.server.Stop()
	client.do("GET", "/v1/billing/charges", "").wantOurs()
	client.do("GET", "/healthz", "").wantOurs()
}

// An answer that holds text without meaning fails when it is written, which is our fault and told as such.
func TestAnswersThatCannotBeWritten(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		"/payments.events.v1.EventService/ListEvents": func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			event := &eventsv1.Event{Payload: &eventsv1.Event_Message{}}
			return &eventsv1.ListEventsResponse{Events: []*eventsv1.Event{event}}, nil
		},
	})
	answer := newClient(t, mesh.address, defaults).do("GET", "/v1/events", "")
	answer.wantOurs()
}

func TestHeadersThatContradictThemselvesOrAreNotRead(t *testing.T) {
	mesh := newMesh(t, nil)
	address := startTyped(t, mesh)
	charge := "POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
	list := "GET /v1/billing/charges HTTP/1.1\r\nHost: a\r\n"
	for headers, want := range map[string]string{
		charge + "Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n{}":                                             "400 IDEMPOTENCY_KEY_MISMATCH",
		charge + "Idempotency-Key: a\r\nidempotency-key: A\r\n\r\n{}":                                             "400 IDEMPOTENCY_KEY_MISMATCH",
		charge + "Idempotency-Key: a\r\nIdempotency-Key:\r\n\r\n{}":                                               "400 IDEMPOTENCY_KEY_MISMATCH",
		charge + "Idempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n{}":                                             "201",
		charge + "Content-Encoding: gzip\r\n\r\n{}":                                                               "400 UNDECODABLE_REQUEST",
		charge + "Content-Encoding: BR\r\n\r\n{}":                                                                 "415 CONTENT_ENCODING_UNSUPPORTED",
		charge + "Content-Encoding: identity, gzip\r\n\r\n{}":                                                     "400 UNDECODABLE_REQUEST",
		charge + "Content-Encoding: gzip, gzip\r\n\r\n{}":                                                         "415 CONTENT_ENCODING_UNSUPPORTED",
		charge + "Content-Encoding: identity\r\nContent-Encoding: x\r\n\r\n{}":                                    "415 CONTENT_ENCODING_UNSUPPORTED",
		charge + "Content-Encoding: \xff\r\n\r\n{}":                                                               "415 CONTENT_ENCODING_UNSUPPORTED",
		charge + "Content-Encoding: identity, Identity,\r\n\r\n{}":                                                "201",
		charge + "Content-Encoding: Identity\r\n\r\n{}":                                                           "201",
		charge + "Content-Encoding:\r\n\r\n{}":                                                                    "201",
		list + "X-Request-Id: a\r\nX-Request-Id: b\r\n\r\n":                                                       "400 INVALID_FIELD",
		list + "X-Request-Id: a\r\nX-Request-Id: a\r\n\r\n":                                                       "200",
		list + "Grpc-Timeout: 5S\r\nGrpc-Timeout: 5S\r\n\r\n":                                                     "200",
		list + "Grpc-Timeout: 5S\r\nGrpc-Timeout: 1n\r\n\r\n":                                                     "400 INVALID_FIELD",
		list + "Grpc-Timeout: 5\r\n\r\n":                                                                          "400 INVALID_FIELD",
		list + "Grpc-Timeout: -5S\r\n\r\n":                                                                        "400 INVALID_FIELD",
		list + "Grpc-Timeout: 123456789S\r\n\r\n":                                                                 "400 INVALID_FIELD",
		list + "Grpc-Timeout: 0S\r\n\r\n":                                                                         "504 DEADLINE_EXCEEDED",
		list + "Grpc-Timeout: 00000000n\r\n\r\n":                                                                  "504 DEADLINE_EXCEEDED",
		charge + "Grpc-Timeout: 0m\r\n\r\n{}":                                                                     "504 DEADLINE_EXCEEDED",
		"GET /v1/events:tail HTTP/1.1\r\nHost: a\r\nGrpc-Timeout: 0H\r\n\r\n":                                     "504 DEADLINE_EXCEEDED",
		list + "Grpc-Timeout: 99999999H\r\n\r\n":                                                                  "200",
		list + "Grpc-Timeout: 5S\r\n\r\n":                                                                         "200",
		list + "X-Forwarded-For: \x80\r\n\r\n":                                                                    "200",
		list + "Traceparent: \x80\r\n\r\n":                                                                        "200",
		list + "Tracestate: " + strings.Repeat("a", 9000) + "\r\n\r\n":                                            "431 HEADERS_TOO_LARGE",
		list + "Authorization: " + strings.Repeat("a", 9000) + "\r\n\r\n":                                         "431 HEADERS_TOO_LARGE",
		list + "X-Other: " + strings.Repeat("a", 9000) + "\r\n\r\n":                                               "200",
		list + "X-Other: " + strings.Repeat("a", 60_000) + "\r\n\r\n":                                             "431 HEADERS_TOO_LARGE",
		list + "Expect: what\r\n\r\n":                                                                             "417 MALFORMED_HTTP",
		list + " x: y\r\n\r\n":                                                                                    "400 MALFORMED_HTTP",
		list + "x y: z\r\n\r\n":                                                                                   "400 MALFORMED_HTTP",
		charge + "Transfer-Encoding: gzip\r\n\r\n{}":                                                              "501 MALFORMED_HTTP",
		"GET /v1/%zz HTTP/1.1\r\nHost: a\r\n\r\n":                                                                 "400 MALFORMED_HTTP",
		"GET / HTTP/1.1\r\n\r\n":                                                                                  "400 MALFORMED_HTTP",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n":                                                                     "400 MALFORMED_HTTP",
		"GET / HTTP/9.1\r\nHost: a\r\n\r\n":                                                                       "505 MALFORMED_HTTP",
		"\x16\x03\x01\x02\x00\r\n\r\n":                                                                            "400 MALFORMED_HTTP",
		"GET\r\n\r\n":                                                                                             "400 MALFORMED_HTTP",
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n":                                                               "400 NO_ROUTE",
		"POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}":        "400 MALFORMED_HTTP",
		"POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n": "400 UNDECODABLE_REQUEST",
		"POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n":  "201",
	} {
		answer := spoken(t, address, headers)
		answer.wantOurs()
		got := fmt.Sprint(answer.status)
		if answer.status >= 400 {
			var said struct{ Details []struct{ Reason string } }
			_ = json.Unmarshal(answer.body, &said)
			got += " " + said.Details[0].Reason
		}
		if got != want {
			t.Errorf("%.90q: %s, not %s: %s", headers, got, want, answer.body)
		}
		if answer.status == 415 && answer.header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("%v", answer.header)
		}
	}
}

// startTyped serves a facade as the command does, with its typed listener, and gives its address.
func startTyped(t *testing.T, mesh *mesh) string {
	t.Helper()
	connection, err := Dial(t.Context(), mesh.address, defaults.Deadline)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := NewHandler(t.Context(), connection, defaults)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, MaxHeaderBytes: HeaderBytesMax}
	go func() { _ = server.Serve(Listen(listener)) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); _ = connection.Close() })
	return listener.Addr().String()
}

// spoken sends bytes and reads what is answered.
func spoken(t *testing.T, address, text string) reply {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, text); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatalf("%.90q: %v", text, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{t, response.StatusCode, response.Header, body}
}

// What net/http refuses by its first line arrives, however much of the request nobody has read.
func TestARefusalArrivesAheadOfWhatIsUnread(t *testing.T) {
	mesh := newMesh(t, nil)
	address := startTyped(t, mesh)
	for _, text := range []string{
		"POST /v1/access/keys/%zz:revoke HTTP/1.1\r\nHost: a\r\nTracestate: " + strings.Repeat("a=b,", 1_500) +
			"\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000),
		"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n" + strings.Repeat("y", 200_000),
	} {
		for range 20 {
			spoken(t, address, text).wantReason(400, "MALFORMED_HTTP")
		}
	}
}

// A handler that panics is a fault of ours, told as every other.
func TestAPanicIsToldAsAFault(t *testing.T) {
	mesh := newMesh(t, nil)
	handler := &facade{limits: defaults, budgets: newBudgets(defaults)} // without routes
	address := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(Listen(listener)) }() // ends with Close
		t.Cleanup(func() { _ = server.Close() })
		return listener.Addr().String()
	}()
	answer := spoken(t, address, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r7\r\n\r\n")
	details := answer.wantReason(500, "INTERNAL")
	if id := details["ErrorInfo"]["metadata"].(map[string]any)["request_id"]; id != "r7" || mesh.count() != 0 {
		t.Errorf("%s", answer.body)
	}
	answer.wantOurs()
}

func TestParametersSayEachThingOnce(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for path, want := range map[string]string{
		"/v1/billing/charges?page_size=1&pageSize=1":                                                  "page_size: it is the same parameter as pageSize",
		"/v1/billing/charges?org_id=a&orgId=b":                                                        "org_id: it is the same parameter as orgId",
		"/v1/metering/usage?period.start_at=2026-01-01T00:00:00Z&period.startAt=2026-01-01T00:00:00Z": "the same parameter",
		"/v1/billing/charges/chg_1?charge_id=chg_2":                                                   "charge_id: this call takes no query",
		"/v1/billing/charges/chg_1?chargeId=chg_2":                                                    "chargeId: this call takes no query",
		"/v1/ledger/accounts/a:USD/entries?account_id=b:USD":                                          "account_id: it is already given by the path or the body",
		"/v1/ledger/accounts/a:USD/entries?accountId=b:USD":                                           "accountId: it is already given by the path or the body",
		"/v1/metering/usage?period.start_at=2026-01-01T00:00:00+01:00":                                "write %2B for the + of a time zone",
		"/v1/timers?due_before=2026-01-01T00:00:00+01:00":                                             "write %2B for the + of a time zone",
		"/v1/timers?due_before=2026-01-01T0:00:00Z":                                                   "is not a time",
		"/v1/timers?due_before=2026-01-01T00:00:00,5Z":                                                "is not a time",
		"/v1/timers?dueBefore=2026-01-01T00:00:00%2B24:00":                                            "is not a time",
		"/v1/metering/usage?period.start_at=2016-12-31T23:59:60Z":                                     "is not a time",
		"/v1/metering/usage?period.endAt=9999-12-31T23:59:59-01:00":                                   "is not a time",
		"/v1/timers?due_before=2026-01-01T00:00:00Z&due_before=2026-01-01T00:00:00Z":                  "it is given 2 times",
		"/v1/timers?due_before=yesterday":                                                             `"yesterday" is not a time`,
		"/v1/payments?status=4294967296":                                                              "is not one of PAYMENT_STATUS_UNSPECIFIED",
		"/v1/payments?status=-4294967294":                                                             "is not one of PAYMENT_STATUS_UNSPECIFIED",
		"/v1/payments?status=99999999999999999999":                                                    "is not one of PAYMENT_STATUS_UNSPECIFIED",
		"/v1/metering/usage?aggregation=%2B4294967298":                                                "is not one of AGGREGATION_UNSPECIFIED",
		"/v1/merchant-configs/shop?version=x":                                                         "a whole number that fits",
	} {
		answer := client.do("GET", path, "")
		details := answer.wantReason(400, "INVALID_FIELD")
		if !strings.Contains(fmt.Sprint(string(answer.body), details), want) {
			t.Errorf("%s: %s", path, answer.body)
		}
		if hint := strings.Contains(string(answer.body), "write %2B"); hint != strings.Contains(path, "+") {
			t.Errorf("%s: %s", path, answer.body)
		}
	}
	if mesh.count() != 0 {
		t.Errorf("a refused request reached the mesh")
	}
	for _, moment := range []string{"2026-01-01T00:00:00%2B01:00", "2026-01-01t00:00:00z", "2026-01-01T00:00:00.12345678901234Z"} {
		client.do("GET", "/v1/timers?due_before="+moment, "").want(200)
	}
}

// A query on a route that reads none would be passed over in silence.
func TestQueriesThatNobodyReadsAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	routes := 0
	eachRule(func(descriptor protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		method, template := methodAndPath(rule)
		if readsQuery(descriptor.Input(), template, rule.GetBody()) {
			return
		}
		routes++
		client.do(method, pathVariable.ReplaceAllString(template, "x")+"?validate_only=true", "{}").wantReason(400, "INVALID_FIELD")
	})
	if routes < 20 || mesh.count() != 0 {
		t.Errorf("%d routes, %d calls", routes, mesh.count())
	}
}

// What the path says would win over the body in silence.
func TestBodiesThatContradictTheirPathAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	nested := func(names []string, value string) string {
		return `{"` + strings.Join(names, `": {"`) + `": ` + value + strings.Repeat("}", len(names))
	}
	fields := 0
	eachRule(func(descriptor protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		method, template := methodAndPath(rule)
		// A raw body is not read here: there is nothing in it that its path could contradict.
		if rule.GetBody() == "" || contract.RawField(descriptor.Input()) != nil {
			return
		}
		for _, variable := range pathVariable.FindAllString(template, -1) {
			fields++
			name := strings.Trim(variable, "{}")
			_, field := fieldAt(descriptor.Input(), name)
			schema := strings.Split(name, ".")
			camel := append(slices.Clone(schema[:len(schema)-1]), field.JSONName())
			path := pathVariable.ReplaceAllString(template, "a%20b")
			for _, names := range [][]string{schema, camel} {
				for _, same := range []string{`"a b"`, `""`, `null`} {
					client.do(method, path, nested(names, same)).want(200)
				}
				before := mesh.count()
				for _, other := range []string{`"y"`, `"a%20b"`, `" "`} {
					details := client.do(method, path, nested(names, other)).wantReason(400, "INVALID_FIELD")
					violation := details["BadRequest"]["field_violations"].([]any)[0].(map[string]any)
					if violation["field"] != name {
						t.Errorf("%s %s: %v", method, path, violation)
					}
				}
				if mesh.count() != before {
					t.Errorf("%s %s: a refused request reached the mesh", method, path)
				}
			}
		}
	})
	if fields < 5 {
		t.Errorf("%d fields", fields)
	}
}

// A change that has no request_id cannot be recognised by a key; one that was taken in silence would be taken for a promise.
func TestKeysThatNobodyReadsAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	with, without := 0, 0
	eachRule(func(descriptor protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		method, template := methodAndPath(rule)
		path := pathVariable.ReplaceAllString(template, "x")
		body := map[string]string{"": "", "*": "{}"}[rule.GetBody()]
		if field := descriptor.Input().Fields().ByName(protoreflect.Name(rule.GetBody())); field != nil {
			body = map[bool]string{true: "[]", false: "{}"}[field.IsList()]
		}
		before := mesh.count()
		if descriptor.Input().Fields().ByName("request_id") != nil || !mutates(descriptor) {
			with++
			client.do(method, path, body, "Idempotency-Key", "k")
			if mesh.count() != before+1 {
				t.Errorf("%s %s: the request did not reach the mesh", method, path)
			}
			return
		}
		without++
		answer := client.do(method, path, body, "Idempotency-Key", "k")
		info := answer.wantReason(400, "IDEMPOTENCY_KEY_UNUSED")["ErrorInfo"]["metadata"].(map[string]any)
		if want := "/" + string(descriptor.Parent().FullName()) + "/" + string(descriptor.Name()); info["method"] != want {
			t.Errorf("%s %s: %v", method, path, info)
		}
		if mesh.count() != before {
			t.Errorf("%s %s: a refused request reached the mesh", method, path)
		}
		client.do(method, path, body, "Idempotency-Key", "")
		if mesh.count() != before+1 {
			t.Errorf("%s %s: an empty key names nothing", method, path)
		}
	})
	if with < 20 || without < 8 {
		t.Errorf("%d routes with a key, %d without", with, without)
	}
}

// Neither GET nor DELETE reads a body: a filter or a key in one would be passed over.
func TestBodiesThatNobodyReadsAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	routes := 0
	eachRule(func(descriptor protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if rule.GetBody() != "" {
			return
		}
		routes++
		method, template := methodAndPath(rule)
		path := pathVariable.ReplaceAllString(template, "x")
		before := mesh.count()
		for _, body := range []string{`{"request_id": "a"}`, `{"org_id": "b"}`, `[]`, `null`, `x`, "\xff", "\x00", `{}{}`, `{} x`} {
			details := client.do(method, path, body).wantReason(400, "INVALID_FIELD")
			violation := details["BadRequest"]["field_violations"].([]any)[0].(map[string]any)
			told := violation["description"].(string)
			if violation["field"] != "body" || strings.Contains(told, "Idempotency-Key") != (method == http.MethodDelete) {
				t.Errorf("%s %s: %v", method, path, violation)
			}
		}
		if mesh.count() != before {
			t.Errorf("%s %s: a refused request reached the mesh", method, path)
		}
		for _, body := range []string{``, ` `, "\r\n", `{}`, " { }\n", "\xef\xbb\xbf", "\xef\xbb\xbf {}"} {
			if answer := client.do(method, path, body); answer.status != 200 {
				t.Errorf("%s %s %q: %s", method, path, body, answer.body)
			}
		}
	})
	if routes < 20 {
		t.Errorf("%d routes", routes)
	}
}

// Half a pair of surrogates is told as such wherever it stands; protojson looks for the other half up to the end.
func TestHalfASurrogatePairIsTold(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, half := range []string{`\ud800`, `\udc00`, `\udbff\ud800`, `\ud800\u0041`, `\uDFFFx`} {
		for _, body := range []string{
			`{"org_id": "` + half + `"}`, `{"org_id":"a` + half + `b"  }`, `{"metadata":{"` + half + `":"a"}}`,
			`{"metadata":{"a":"` + half + `"}}`, `{"org_id":"` + half + `","sku":"sms"}`, `{"` + half + `":1}`,
		} {
			client.do("POST", "/v1/metering/events", "["+body+"]").want(202)
			events := mesh.seen(mesh.count() - 1).request.(*meteringv1.IngestEventsRequest).GetEvents()
			if told := events[0].GetUnreadable(); !strings.Contains(told, "half of a surrogate pair") {
				t.Errorf("%s: %q", body, told)
			}
		}
		answer := client.do("POST", "/v1/billing/charges", `{"org_id":"`+half+`"}`)
		answer.wantReason(400, "UNDECODABLE_REQUEST")
		if !strings.Contains(string(answer.body), "half of a surrogate pair") {
			t.Errorf("%s: %s", half, answer.body)
		}
	}
}

// A byte order mark before a body is read on every route; the services take it off bodies that travel untouched.
func TestAByteOrderMarkIsRead(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	client.do("POST", "/v1/billing/charges", "\xef\xbb\xbf{\"org_id\": \"acme\"}").want(201)
	if got := mesh.only().request.(*billingv1.CreateChargeRequest).GetOrgId(); got != "acme" {
		t.Errorf("org_id %q", got)
	}
	client.do("POST", "/v1/billing/charges", "\xef\xbb\xbf").want(201)
	client.do("POST", "/v1/metering/events", "\xef\xbb\xbf[{\"request_id\": \"r1\"}]").want(202)
	client.do("POST", "/v1/billing/charges", "\xef\xbb\xbf\xef\xbb\xbf{}").wantReason(400, "UNDECODABLE_REQUEST")
	client.do("POST", "/v1/billing/charges", "{}\xef\xbb\xbf").wantReason(400, "UNDECODABLE_REQUEST")
}

// Only what net/http writes by itself is replaced, never what a handler answers.
func TestAnswersOfHandlersPassTheListener(t *testing.T) {
	for text, want := range map[string]bool{
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request": true,
		"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n":                               true,
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}":                       false,
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n":                         false,
		"HTTP/1.1 100 Continue\r\n\r\n": false, "": false, "{}": false,
	} {
		if _, own := ofServer([]byte(text)); own != want {
			t.Errorf("%q: %v", text, own)
		}
	}
	if !bytes.HasPrefix(refusalOf(431), []byte("HTTP/1.1 431 Request Header Fields Too Large\r\n")) {
		t.Errorf("%s", refusalOf(431))
	}
}
