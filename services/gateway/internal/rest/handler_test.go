package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "tollmesh.dev/gen/go/payments/access/v1"
	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
	orchestrationv1 "tollmesh.dev/gen/go/payments/orchestration/v1"
	pricingv1 "tollmesh.dev/gen/go/payments/pricing/v1"
)

const (
	ingestMethod  = "/payments.metering.v1.MeteringService/IngestEvents"
	chargeMethod  = "/payments.billing.v1.ChargeService/CreateCharge"
	paymentMethod = "/payments.orchestration.v1.PaymentService/CreatePayment"
	tailMethod    = "/payments.events.v1.EventService/TailEvents"
)

// Every annotated RPC of the schemas answers at its path, over its verb.
func TestEveryAnnotationIsServed(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	variable := regexp.MustCompile(`\{[^}]*\}`)
	rules := 0
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		rules++
		verb, path := methodAndPath(rule)
		body := ""
		if field := rule.GetBody(); field != "" {
			body = "{}"
			if field != "*" && method.Input().Fields().ByName(protoreflect.Name(field)).IsList() {
				body = "[]"
			}
		}
		before := mesh.count()
		answer := client.do(verb, variable.ReplaceAllString(path, "receivable:acme:USD"), body)
		if answer.status >= 300 {
			t.Errorf("%s %s: %d %s", verb, path, answer.status, answer.body)
		}
		if mesh.count() != before+1 {
			t.Fatalf("%s %s reached no RPC", verb, path)
		}
		full := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
		if got := mesh.seen(before).method; got != full {
			t.Errorf("%s %s reached %s, not %s", verb, path, got, full)
		}
	})
	if rules < 20 {
		t.Fatalf("only %d annotated RPCs are linked", rules)
	}
}

// Every file of the schemas is linked, or the JSON of a message that holds one of them would fail.
func TestEverySchemaIsLinked(t *testing.T) {
	files, err := filepath.Glob("../../../../proto/payments/*/v1/*.proto")
	if err != nil || len(files) < 10 {
		t.Fatalf("the schemas are not where they should be: %v %v", files, err)
	}
	for _, file := range files {
		name, _ := filepath.Rel("../../../../proto", file)
		if _, err := protoregistry.GlobalFiles.FindFileByPath(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadersTravelToTheMesh(t *testing.T) {
	mesh := newMesh(t, nil)
	answer := newClient(t, mesh.address, defaults).do(
		"GET", "/v1/billing/charges", "",
		"Authorization", "Bearer k", "Idempotency-Key", "my key", "X-Request-Id", "r1",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"Grpc-Metadata-Mesh-Token", "forged", "X-Mesh-Act-As", "other", "Cookie", "c=1")
	answer.want(200)
	seen := mesh.only().metadata
	for name, value := range map[string]string{
		"authorization": "Bearer k", "idempotency-key": "my key", "x-request-id": "r1",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		if got := seen.Get(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name := range seen {
		if strings.Contains(name, "mesh") || strings.Contains(name, "cookie") {
			t.Errorf("%s travelled: %q", name, seen.Get(name))
		}
	}
	if got := answer.header.Values("X-Request-Id"); len(got) != 1 || got[0] != "r1" {
		t.Errorf("X-Request-Id: %q", got)
	}
}

func TestMeshTokensStayOutside(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, value := range []string{"Mesh a.b.c", "mesh a.b.c", "MESH a.b.c", "Mesh", "  Mesh a.b.c"} {
		answer := client.do("GET", "/v1/billing/charges", "", "Authorization", value)
		answer.want(401)
	}
	if calls := len(mesh.calls); calls != 0 {
		t.Errorf("%d calls travelled", calls)
	}
}

func TestOddHeaderValues(t *testing.T) {
	mesh := newMesh(t, nil)
	answer := newClient(t, mesh.address, defaults).do(
		"GET", "/v1/billing/charges", "",
		"Authorization", "Bearer schlüssel", "Idempotency-Key", "größe 1",
		"X-Request-Id", strings.Repeat("x", 200))
	answer.want(200)
	seen := mesh.only().metadata
	if got := seen.Get("idempotency-key"); len(got) != 1 || got[0] != "gr%C3%B6%C3%9Fe+1" {
		t.Errorf("an odd key must arrive, escaped: %q", got)
	}
	if got := seen.Get("authorization"); len(got) != 0 {
		t.Errorf("authorization: %q", got)
	}
	id := answer.header.Get("X-Request-Id")
	if got := seen.Get("x-request-id"); len(got) != 1 || got[0] != id || len(id) != 36 {
		t.Errorf("x-request-id: %q, answered %q", got, id)
	}
}

// A proxy may add what stands there already; another parent makes it none.
func TestOneParentIsPassedOn(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	unsampled := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	other := strings.TrimSuffix(unsampled, "0") + "1"
	for parents, want := range map[string][]string{
		unsampled:                   {unsampled},
		unsampled + " " + unsampled: {unsampled},
		unsampled + " " + unsampled + " " + unsampled: {unsampled},
		unsampled + " " + other:                       nil,
		unsampled + " " + other + " " + unsampled:     nil,
	} {
		var headers []string
		for _, parent := range strings.Fields(parents) {
			headers = append(headers, "Traceparent", parent)
		}
		client.do("GET", "/v1/billing/charges", "", headers...).want(200)
		if got := mesh.seen(mesh.count() - 1).metadata.Get("traceparent"); !slices.Equal(got, want) {
			t.Errorf("%s became %q", parents, got)
		}
	}
}

func TestHeadersTravelBack(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		"/payments.billing.v1.ChargeService/GetCharge": func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			err := stream.SendHeader(metadata.Pairs("etag", `"v1"`, "retry-after", "7",
				"x-request-id", "given by the mesh", "secret", "no"))
			return &billingv1.GetChargeResponse{Charge: &billingv1.Charge{ChargeId: "chg_1"}}, err
		},
	})
	answer := newClient(t, mesh.address, defaults).do("GET", "/v1/billing/charges/chg_1", "")
	if got := answer.want(200)["charge_id"]; got != "chg_1" {
		t.Errorf("REST shows the bare resource: %s", answer.body)
	}
	for name, value := range map[string]string{
		"ETag": `"v1"`, "Retry-After": "7", "X-Request-Id": "given by the mesh", "Secret": "",
		"Content-Type": "application/json",
	} {
		if got := answer.header.Values(name); strings.Join(got, "|") != value {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The call of seed 003, as written there.
func TestIngestTakesABareArray(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		ingestMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &meteringv1.IngestEventsResponse{Accepted: 2, ReceiptId: "rcp_1"}, nil
		},
	})
	answer := newClient(t, mesh.address, defaults).do("POST", "/v1/metering/events", `[
		{"request_id": "r1", "sku": "sms", "quantity": 1.250, "org_id": "o", "project_id": "p", "time": "2026-01-02T03:04:05.000006Z"},
		{"request_id": "r2", "sku": "sms", "quantity": "2", "org_id": "o", "project_id": "p", "event_time": "2026-01-02T03:04:05Z"}
	]`)
	content := answer.want(202)
	if content["receipt_id"] != "rcp_1" || content["rejected"] == nil || content["problems"] == nil {
		t.Errorf("zeros and empty lists are written: %s", answer.body)
	}
	events := mesh.only().request.(*meteringv1.IngestEventsRequest).GetEvents()
	if len(events) != 2 || events[0].GetQuantity() != "1.250" || events[1].GetQuantity() != "2" {
		t.Fatalf("a number is its own text: %v", events)
	}
	if events[0].GetEventTime().GetNanos() != 6000 || events[1].GetEventTime().GetSeconds() != 1767323045 {
		t.Errorf("time and event_time are both read: %v", events)
	}
}

func TestIngestHandsItemsThatDoNotReadOn(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	good := `{"request_id": "good", "sku": "sms", "quantity": 1, "org_id": "o", "time": "2026-01-02T03:04:05Z"}`
	items := map[string]string{
		`{"request_id": "r2", "colour": "red"}`:                                                     "r2",
		`{"requestId": "r3", "quantity": true}`:                                                     "r3",
		`{"request_id": "r4", "requestId": "r4"}`:                                                   "r4",
		`{"request_id": "r5", "org_id": 1e1000000000000000000}`:                                     "r5",
		`{"request_id": "r6", "org_id": ` + strings.Repeat("7", 5000) + `}`:                         "r6",
		`{"request_id": "r7", "metadata": []}`:                                                      "r7",
		`{"request_id": "r8", "metadata": {"a": 1}}`:                                                "r8",
		`{"request_id": "r9", "time": "2026-1-1T0:0:0Z"}`:                                           "r9",
		`{"request_id": "ra", "event_time": "2026-01-01T00:00:00+99:99"}`:                           "ra",
		`{"request_id": "rb", "time": "2026-01-01T00:00:00+24:00"}`:                                 "rb",
		`{"request_id": "rc", "time": "2026-01-01T0:00:00Z"}`:                                       "rc",
		`{"request_id": "rd", "time": "2026-01-01T00:00:00,5Z"}`:                                    "rd",
		`{"request_id": "re", "time": "2016-12-31T23:59:60Z"}`:                                      "re",
		`{"request_id": "rf", "time": 1764363194}`:                                                  "rf",
		`{"request_id": "rg", "source": "SOURCE_MARS"}`:                                             "rg",
		`{"request_id": "rh", "org_id": "\ud800"}`:                                                  "rh",
		`{"request_id": "ri", "org_id": ` + strings.Repeat("[", 80) + strings.Repeat("]", 80) + `}`: "ri",
		// No JSON, each in its own way; its brackets and quotes still tell where it ends.
		`{"request_id": "rj", "quantity": NaN}`:                                                                    "rj",
		`{"request_id": "rk", "quantity": -Infinity}`:                                                              "rk",
		`{"request_id": "rl", "quantity": 01}`:                                                                     "rl",
		`{"request_id": "rm", "org_id": "a` + "\t" + `],}"}`:                                                       "rm",
		`{"request_id": "rn", "org_id": "\x"}`:                                                                     "rn",
		`{"request_id": "ro", "org_id": "a",}`:                                                                     "ro",
		`{"request_id": "rp", "org_id" "a"}`:                                                                       "rp",
		`{"request_id": "rq", "org_id": 'a'}`:                                                                      "rq",
		`{"request_id": "rr", "metadata": {"a": [}]}`:                                                              "rr",
		`{"request_id": "rs", "metadata": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`:      "rs",
		`{"request_id": "rt", "metadata": {"a": ` + strings.Repeat("1,", 20) + `}}`:                                "rt",
		`{"metadata": {"request_id": "inside"}, "request_id": {"request_id": "inside"}, "requestId": "ru", "x": }`: "ru",
		`{request_id: "rv"}`:                                                                                       "",
		`nul`:                                                                                                      "",
		`{"request_id": 5}`:                                                                                        "",
		`{"quantity": {}}`:                                                                                         "",
		`5`:                                                                                                        "",
		`"text"`:                                                                                                   "",
		`[[]]`:                                                                                                     "",
		`true`:                                                                                                     "",
	}
	for item, id := range items {
		client.do("POST", "/v1/metering/events", "["+good+","+item+" , "+good+"]").want(202)
		events := mesh.seen(mesh.count() - 1).request.(*meteringv1.IngestEventsRequest).GetEvents()
		if len(events) != 3 || events[0].GetRequestId() != "good" || events[2].GetUnreadable() != "" {
			t.Errorf("%s: %v", item, events)
			continue
		}
		odd := events[1]
		if odd.GetRequestId() != id || odd.GetUnreadable() == "" || len(odd.GetUnreadable()) > 500 || odd.GetOrgId() != "" {
			t.Errorf("%s: %v", item, odd)
		}
	}
}

func TestIngestTakesEveryMomentOfRFC3339(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for text, want := range map[string]string{
		"2026-01-02t03:04:05z":               "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.1234567891234Z": "2026-01-02T03:04:05.123456789Z",
		"2026-01-02T03:04:05-00:00":          "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.5+05:30":        "2026-01-01T21:34:05.5Z",
		`2026-01-02T03:04:05\u002b00:00`:     "2026-01-02T03:04:05Z",
		"0001-01-01T00:00:00Z":               "0001-01-01T00:00:00Z",
	} {
		client.do("POST", "/v1/metering/events", `[{"request_id": "r", "time" : "`+text+`"}]`).want(202)
		event := mesh.seen(mesh.count() - 1).request.(*meteringv1.IngestEventsRequest).GetEvents()[0]
		if got := event.GetEventTime().AsTime().Format(time.RFC3339Nano); got != want || event.GetUnreadable() != "" {
			t.Errorf("%s became %s (%s)", text, got, event.GetUnreadable())
		}
	}
}

func TestIngestIsCutAtTheFirstItemThatIsTooMuch(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	// What stands behind the limit is not even read: it is no JSON.
	body := "[" + strings.Repeat("{},", itemsMax) + "{} oops"
	details := client.do("POST", "/v1/metering/events", body).wantReason(400, "BATCH_TOO_LARGE")
	if max := details["ErrorInfo"]["metadata"].(map[string]any)["items_max"]; max != "10000" {
		t.Errorf("items_max: %v", max)
	}
	if mesh.count() != 0 {
		t.Error("it reached the mesh")
	}
}

func TestListsOfARequestAreCutAtTheFirstItemThatIsTooMuch(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for path, body := range map[string]string{
		"/v1/ledger/transfers":      `{"transfers": [`,
		"/v1/event-types":           `{"eventTypes": [`,
		"/v1/monitoring/violations": `{"violations": [`,
	} {
		// What stands behind the limit is not even read: it is no JSON.
		answer := client.do("POST", path, body+strings.Repeat("{},", itemsMax)+"{} oops")
		answer.wantReason(400, "BATCH_TOO_LARGE")
		client.do("POST", path, body+strings.Repeat("{},", itemsMax-1)+"{}]}").want(200)
	}
	// As deep as one likes: no text of a few bytes becomes gigabytes.
	body := `{"transfers": [{"metadata": {"a": [` + strings.Repeat("0,", valuesMax) + "oops"
	large := Limits{BodyBytesMax: BodyBytesMax, InFlightMax: defaults.InFlightMax, StreamsMax: defaults.StreamsMax, Deadline: defaults.Deadline}
	answer := newClient(t, mesh.address, large).do("POST", "/v1/ledger/transfers", body)
	answer.wantReason(400, "UNDECODABLE_REQUEST")
	if !strings.Contains(string(answer.body), "values at all depths together") {
		t.Errorf("%s", answer.body)
	}
}

func TestIngestOfNoArrayIsRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, body := range []string{`{"events": []}`, `[{}`, `[] []`, `[{"quantity": 1`, `{`, `x`, "\xff", `[{},]`, `[,{}]`, `[{},,{}]`, `[{}}]`,
		`[{} {}]`, `[{}`, `[{},`, `[`, `["a]`, `[{"a": "]}]`, `[{}]]`, `[1"a"]`, `[{}:{}]`} {
		client.do("POST", "/v1/metering/events", body).wantReason(400, "UNDECODABLE_REQUEST")
	}
	if mesh.count() != 0 {
		t.Errorf("a refused body reached the mesh")
	}
}

func TestCreateAnswers201WithLocation(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &billingv1.CreateChargeResponse{Charge: &billingv1.Charge{ChargeId: "chg_1"}}, nil
		},
	})
	answer := newClient(t, mesh.address, defaults).do("POST", "/v1/billing/charges", `{"org_id": "acme"}`)
	if answer.want(201)["charge_id"] != "chg_1" || answer.header.Get("Location") != "/v1/billing/charges/chg_1" {
		t.Errorf("%v %s", answer.header, answer.body)
	}
}

func TestCreateOfAResourceWithAShorterID(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		"/payments.access.v1.AccessService/CreateApiKey": func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &accessv1.CreateApiKeyResponse{ApiKey: &accessv1.ApiKey{KeyId: "key_1"}, Secret: "s"}, nil
		},
	})
	answer := newClient(t, mesh.address, defaults).do("POST", "/v1/access/keys", `{}`)
	if answer.want(201)["secret"] != "s" || answer.header.Get("Location") != "/v1/access/keys/key_1" {
		t.Errorf("%v %s", answer.header, answer.body)
	}
}

func TestBatchCreateAnswers200(t *testing.T) {
	mesh := newMesh(t, nil)
	answer := newClient(t, mesh.address, defaults).do("POST", "/v1/ledger/accounts", `{"accounts": []}`)
	answer.want(200)
	if answer.header.Get("Location") != "" {
		t.Errorf("a batch has no one Location: %v", answer.header)
	}
}

func TestPaymentBodyTravelsByteForByte(t *testing.T) {
	for name, body := range map[string]string{
		"messy JSON":     "{\"amount\": 90071992547409.93, \"amount\": 1e400, \"a\": NaN}\r\n",
		"no JSON":        "<pay amount='5'/>",
		"no UTF-8":       "\xff\xfe\x00{",
		"nothing at all": "",
		"blanks":         " \n ",
	} {
		t.Run(name, func(t *testing.T) {
			mesh := newMesh(t, map[string]answer{
				paymentMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
					return &orchestrationv1.CreatePaymentResponse{
						Payment: &orchestrationv1.Payment{PaymentId: "pay_1"}}, nil
				},
			})
			answer := newClient(t, mesh.address, defaults).do("POST", "/v1/payments", body,
				"Idempotency-Key", "order 7", "Content-Type", "text/plain")
			answer.want(201)
			if answer.header.Get("Location") != "/v1/payments/pay_1" {
				t.Errorf("Location: %q", answer.header.Get("Location"))
			}
			seen := mesh.only()
			request := seen.request.(*orchestrationv1.CreatePaymentRequest)
			if !bytes.Equal(request.GetRawRequest(), []byte(body)) {
				t.Errorf("%q became %q", body, request.GetRawRequest())
			}
			if _, set := request.GetRequest().(*orchestrationv1.CreatePaymentRequest_RawRequest); !set {
				t.Errorf("raw_request is not set: %v", request)
			}
			if request.GetRequestId() != "" || seen.metadata.Get("idempotency-key")[0] != "order 7" {
				t.Errorf("the key is the service's to judge: %v", seen)
			}
		})
	}
}

func TestAllowNamesTheMethodsOfTheActionOrOfTheResource(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for path, want := range map[string]string{
		"/v1/access/keys/k:revoke":             "POST",
		"/v1/ledger/accounts/receivable:a:USD": "GET, HEAD",
		"/v1/events":                           "GET, HEAD, POST",
		"/v1/events:cloudevents":               "POST",
	} {
		answer := client.do("PUT", path, "{}")
		answer.wantReason(405, "METHOD_NOT_ALLOWED")
		if got := answer.header.Get("Allow"); got != want {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
}

func TestUnknownFieldsAndParametersAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	unknown := client.do("POST", "/v1/billing/charges", `{"org": "acme"}`)
	unknown.wantReason(400, "UNDECODABLE_REQUEST")
	if !strings.Contains(string(unknown.body), chargeMethod) {
		t.Errorf("%s", unknown.body)
	}
	client.do("POST", "/v1/billing/charges", `{"org_id": "acme"} trailing`).wantReason(400, "UNDECODABLE_REQUEST")
	client.do("POST", "/v1/billing/charges", `{"org_id": "a", "org_id": "b"}`).wantReason(400, "UNDECODABLE_REQUEST")
	client.do("GET", "/v1/billing/charges?org=acme", "").wantReason(400, "INVALID_FIELD")
	client.do("GET", "/v1/billing/charges?page_size=many", "").wantReason(400, "INVALID_FIELD")
	if mesh.count() != 0 {
		t.Errorf("a refused request reached the mesh")
	}
	client.do("GET", "/v1/billing/charges?org_id=acme&page_size=3", "").want(200)
	request := mesh.only().request.(*billingv1.ListChargesRequest)
	if request.GetOrgId() != "acme" || request.GetPageSize() != 3 {
		t.Errorf("%v", request)
	}
}

// Numbers are taken as their own text wherever the schema wants a decimal string, maps included.
func TestDecimalsMayBeNumbers(t *testing.T) {
	mesh := newMesh(t, nil)
	newClient(t, mesh.address, defaults).do("POST", "/v1/pricing/estimate",
		`{"org_id": "o", "project_id": "p", "skus": {"sms": 2.50, "mail": "1"}, "leads": 10}`).want(200)
	request := mesh.only().request.(*pricingv1.EstimateRequest)
	if request.GetSkus()["sms"] != "2.50" || request.GetSkus()["mail"] != "1" || request.GetLeads() != "10" {
		t.Errorf("%v", request)
	}
}

func TestErrorsAreStatusWithDetails(t *testing.T) {
	refusal, _ := status.New(codes.FailedPrecondition, "the period overlaps").WithDetails(
		&errdetails.ErrorInfo{Reason: "CHARGE_OVERLAPS", Domain: "tollmesh.dev", Metadata: map[string]string{"a": "b"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})
	unknown := refusal.Proto()
	unknown.Details = append(unknown.Details, &anypb.Any{TypeUrl: "type.googleapis.com/of.nobody", Value: []byte{8, 1}})
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return nil, status.ErrorProto(unknown)
		},
	})
	answer := newClient(t, mesh.address, defaults).do("POST", "/v1/billing/charges", `{}`, "X-Request-Id", "r9")
	details := answer.wantReason(400, "CHARGE_OVERLAPS")
	if len(details) != 2 || details["ErrorInfo"]["metadata"].(map[string]any)["a"] != "b" {
		t.Errorf("details: %v", details)
	}
	if answer.header.Get("Retry-After") != "2" || answer.header.Get("X-Request-Id") != "r9" {
		t.Errorf("headers: %v", answer.header)
	}
}

func TestStatusOfCodes(t *testing.T) {
	var code codes.Code
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			refusal, _ := status.New(code, "a\nmessage").WithDetails(
				&errdetails.ErrorInfo{Reason: "X", Domain: "tollmesh.dev"})
			return nil, refusal.Err()
		},
	})
	client := newClient(t, mesh.address, defaults)
	for want, codes := range map[int][]codes.Code{
		400: {codes.InvalidArgument, codes.OutOfRange}, 401: {codes.Unauthenticated},
		403: {codes.PermissionDenied}, 404: {codes.NotFound}, 409: {codes.AlreadyExists, codes.Aborted},
		429: {codes.ResourceExhausted}, 500: {codes.Internal}, 503: {codes.Unavailable},
	} {
		for _, code = range codes {
			answer := client.do("POST", "/v1/billing/charges", `{}`)
			answer.wantReason(want, "X")
			challenge := answer.header.Get("WWW-Authenticate")
			if (want == 401) != (challenge == `Bearer realm="tollmesh"`) || strings.Contains(challenge, "message") {
				t.Errorf("%d: WWW-Authenticate %q", want, challenge)
			}
		}
	}
}

func TestErrorsOfTheFacadeHaveReasons(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return nil, status.Error(codes.Unknown, "raised without a type")
		},
	})
	client := newClient(t, mesh.address, defaults)
	client.do("GET", "/v1/nothing", "").wantReason(404, "NO_ROUTE")
	client.do("GET", "/", "").wantReason(404, "NO_ROUTE")
	for path, allow := range map[string]string{
		"/v1/payments": "GET, HEAD, POST", "/v1/ledger/accounts/a:b": "GET, HEAD", "/v1/access/keys/k:revoke": "POST",
		"/v1/merchant-configs/shop": "GET, HEAD, PUT",
	} {
		answer := client.do("DELETE", path, "")
		answer.wantReason(405, "METHOD_NOT_ALLOWED")
		if got := answer.header.Get("Allow"); got != allow {
			t.Errorf("Allow of %s: %q", path, got)
		}
	}
	client.do("POST", "/v1/billing/charges", `{}`).wantReason(500, "INTERNAL")
	client.do("POST", "/v1/billing/charges", "{\""+strings.Repeat("a", 300<<10)).wantReason(413, "MESSAGE_TOO_LARGE")
}

// The mesh's own limit on messages comes without an ErrorInfo.
func TestMessageLargerThanTheMeshTakes(t *testing.T) {
	mesh := newMesh(t, nil)
	limits := defaults
	limits.BodyBytesMax = 4 << 20
	newClient(t, mesh.address, limits).do("POST", "/v1/billing/charges", `{"org_id": "`+strings.Repeat("a", 2<<20)+`"}`).
		wantReason(413, "MESSAGE_TOO_LARGE")
}

// What else gRPC calls exhausted may be tried again, and is not the body's fault.
func TestExhaustedIsNotAlwaysTheBody(t *testing.T) {
	const list = "/payments.billing.v1.ChargeService/ListCharges"
	for message, want := range map[string]string{
		"Concurrent RPC limit exceeded!":                     "OVERLOADED",
		"grpc: received message larger than max (17 vs. 16)": "MESSAGE_TOO_LARGE",
	} {
		mesh := newMesh(t, map[string]answer{list: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return nil, status.Error(codes.ResourceExhausted, message)
		}})
		newClient(t, mesh.address, defaults).do("GET", "/v1/billing/charges", "").wantReason(429, want)
	}
}

// A body that travels untouched may weigh what its field may hold, whatever the facade takes elsewhere.
func TestRawBodiesAreAsLargeAsTheirFieldsMayBe(t *testing.T) {
	for _, route := range rawRoutes() {
		bytesMax, path := route.bytesMax, pathVariable.ReplaceAllString(route.template, "x")
		mesh := newMesh(t, nil)
		limits := defaults
		limits.BodyBytesMax = 16 << 20
		details := newClient(t, mesh.address, limits).do(route.verb, path, strings.Repeat("a", int(bytesMax)+1)).
			wantReason(413, "MESSAGE_TOO_LARGE")
		metadata := details["ErrorInfo"]["metadata"].(map[string]any)
		if metadata["bytes_max"] != strconv.FormatInt(bytesMax, 10) || mesh.count() != 0 {
			t.Errorf("%s: %v", path, metadata)
		}
	}
}

// What a parameter should have been is said in words, and which one it was.
func TestParametersThatDoNotReadAreNamed(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for query, want := range map[string]string{
		"/v1/events?page_size=abc":                     `"abc" is not a whole number that fits`,
		"/v1/events?page_size=99999999999":             `"99999999999" is not a whole number that fits`,
		"/v1/events?page_size=1&page_size=2":           `it is given 2 times; send it once`,
		"/v1/events?page_size[x]=5":                    `there is no such parameter`,
		"/v1/events?page_size[=5":                      `there is no such parameter`,
		"/v1/events?limit=5":                           `there is no such parameter`,
		"/v1/events?rendering=XML":                     `"XML" is not one of RENDERING_`,
		"/v1/metering/usage?period.start_at=yesterday": `"yesterday" is not a time such as 2026-01-31T12:00:00Z`,
		"/v1/metering/usage?metadata[a=1":              `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata[=1":               `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata[a]x=1":            `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata[a][b]=1":          `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata[[]=1":             `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata[a]]=1":            `name one key in brackets, as in metadata[key]`,
		"/v1/metering/usage?metadata=1":                `"1" is not a string: name one of its fields`,
		"/v1/metering/usage?period=2026":               `"2026" is not a string: name one of its fields, as in period.x`,
	} {
		details := client.do("GET", query, "").wantReason(400, "INVALID_FIELD")
		violation := details["BadRequest"]["field_violations"].([]any)[0].(map[string]any)
		_, parameters, _ := strings.Cut(query, "?")
		name, _, _ := strings.Cut(parameters, "=")
		if said := violation["description"].(string); violation["field"] != name || !strings.HasPrefix(said, want) {
			t.Errorf("%s: %v", query, violation)
		}
	}
	if mesh.count() != 0 {
		t.Errorf("a refused request reached the mesh")
	}
}

func TestAGrpcTimeoutThatStandsTwiceIsToldAsSuch(t *testing.T) {
	client := newClient(t, newMesh(t, nil).address, defaults)
	answer := client.do("GET", "/v1/billing/charges", "", "Grpc-Timeout", "5S", "Grpc-Timeout", "1n")
	answer.wantReason(400, "INVALID_FIELD")
	if !strings.Contains(string(answer.body), "Grpc-Timeout: this header was sent twice") {
		t.Errorf("%s", answer.body)
	}
}

func TestMeshThatIsDown(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	client.do("GET", "/readyz", "").want(200)
	mesh.server.Stop()
	answer := client.do("GET", "/v1/billing/charges", "")
	answer.wantReason(503, "DEPENDENCY_UNAVAILABLE")
	if answer.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", answer.header.Get("Retry-After"))
	}
	client.awaitReady(503)
	client.do("GET", "/readyz", "").wantReason(503, "DEPENDENCY_UNAVAILABLE")
	client.do("GET", "/healthz", "").want(200)
}

func TestMeshThatIsNotReady(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := client.do("GET", path, "").want(200)["status"]; got != "SERVING" {
			t.Errorf("%s: %v", path, got)
		}
	}
	for range 2 {
		mesh.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		client.awaitReady(503)
		answer := client.do("GET", "/readyz", "")
		answer.wantReason(503, "DEPENDENCY_UNAVAILABLE")
		if answer.header.Get("Retry-After") != "1" || answer.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers: %v", answer.header)
		}
		if got := client.do("GET", "/healthz", "").want(200)["status"]; got != "SERVING" {
			t.Errorf("it lives: %v", got)
		}
		mesh.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
		client.awaitReady(200)
	}
}

// awaitReady waits until /readyz answers so, for a second: what it remembers is younger.
func (c client) awaitReady(want int) {
	c.t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c.do("GET", "/readyz", "").status == want {
			return
		}
	}
	c.t.Fatalf("/readyz does not become %d", want)
}

// hungHealth never answers.
type hungHealth struct {
	grpc_health_v1.UnimplementedHealthServer
	asked atomic.Int32
}

func (h *hungHealth) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	h.asked.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestMeshThatHangsIsNotReadyAndIsAskedOnceByMany(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hung := &hungHealth{}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, hung)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	client := newClient(t, listener.Addr().String(), defaults)
	answers := make(chan int, 20)
	for range cap(answers) {
		go func() {
			response, err := http.Get(client.url + "/readyz")
			if err != nil {
				answers <- 0
				return
			}
			response.Body.Close()
			answers <- response.StatusCode
		}()
	}
	for range cap(answers) {
		if got := <-answers; got != 503 {
			t.Errorf("status %d", got)
		}
	}
	if asked := hung.asked.Load(); asked != 1 {
		t.Errorf("20 probes at once asked %d times", asked)
	}
}

func TestProbesTakeNoSlot(t *testing.T) {
	mesh := newMesh(t, nil)
	limits := defaults
	limits.InFlightMax = 0 // full, as it were
	client := newClient(t, mesh.address, limits)
	client.do("GET", "/v1/billing/charges", "").wantReason(429, "OVERLOADED")
	client.do("GET", "/healthz", "").want(200)
	client.do("GET", "/readyz", "").want(200)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := client.do("HEAD", path, "").status; got != 200 {
			t.Errorf("HEAD %s: %d", path, got)
		}
	}
}

func TestProbesAreOnlyAsked(t *testing.T) {
	client := newClient(t, newMesh(t, nil).address, defaults)
	for path, allow := range map[string]string{"/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/openapi.json": "GET, HEAD"} {
		answer := client.do("POST", path, "{}")
		answer.wantReason(405, "METHOD_NOT_ALLOWED")
		if got := answer.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q", path, got)
		}
	}
}

func TestRefusedForWantOfRoomIsNotTheCallersDoing(t *testing.T) {
	refuse := func(proto.Message, grpc.ServerStream) (proto.Message, error) {
		return nil, fault(codes.ResourceExhausted, errorsv1.ErrorReason_ERROR_REASON_STORAGE_LOW, "full", nil,
			&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 10}}).Err()
	}
	mesh := newMesh(t, map[string]answer{"/payments.billing.v1.ChargeService/ListCharges": refuse})
	answer := newClient(t, mesh.address, defaults).do("GET", "/v1/billing/charges", "")
	answer.wantReason(503, "STORAGE_LOW")
	if got := answer.header.Get("Retry-After"); got != "10" {
		t.Errorf("Retry-After: %q", got)
	}
}

func TestDeadlines(t *testing.T) {
	wait := func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
		<-stream.Context().Done()
		return nil, status.FromContextError(stream.Context().Err()).Err()
	}
	mesh := newMesh(t, map[string]answer{chargeMethod: wait})
	limits := defaults
	limits.Deadline = 100 * time.Millisecond
	client := newClient(t, mesh.address, limits)
	client.do("POST", "/v1/billing/charges", `{}`).wantReason(504, "DEADLINE_EXCEEDED")
	if left := mesh.only().deadline; left <= 0 || left > limits.Deadline {
		t.Errorf("the default deadline travels: %s", left)
	}
	client.do("POST", "/v1/billing/charges", `{}`, "Grpc-Timeout", "20m").wantReason(504, "DEADLINE_EXCEEDED")
	if left := mesh.seen(1).deadline; left <= 0 || left > 20*time.Millisecond {
		t.Errorf("the caller's deadline travels: %s", left)
	}
}

func TestStreamOutlivesTheDeadlineOfCalls(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		tailMethod: func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			for _, id := range []string{"e1", "e2"} {
				time.Sleep(80 * time.Millisecond)
				event := &eventsv1.Event{Id: id}
				if err := stream.SendMsg(&eventsv1.TailEventsResponse{Event: event}); err != nil {
					return nil, err
				}
			}
			return nil, status.Error(codes.Unavailable, "going down")
		},
	})
	limits := defaults
	limits.Deadline = 50 * time.Millisecond
	answer := newClient(t, mesh.address, limits).do("GET", "/v1/events:tail", "")
	lines := strings.Split(strings.TrimSpace(string(answer.body)), "\n")
	if answer.status != 200 || len(lines) != 3 || !strings.Contains(lines[1], `"e2"`) ||
		!strings.Contains(lines[2], "DEPENDENCY_UNAVAILABLE") {
		t.Errorf("%d: %s", answer.status, answer.body)
	}
	if mesh.only().deadline != 0 {
		t.Errorf("a stream has no default deadline: %s", mesh.seen(0).deadline)
	}
}

func TestTooManyCallsAtATime(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			entered <- struct{}{}
			<-release
			return &billingv1.CreateChargeResponse{}, nil
		},
	})
	limits := defaults
	limits.InFlightMax = 1
	client := newClient(t, mesh.address, limits)
	done := make(chan reply)
	go func() { done <- client.do("POST", "/v1/billing/charges", `{}`) }()
	<-entered
	answer := client.do("GET", "/v1/billing/charges", "")
	answer.wantReason(429, "OVERLOADED")
	if answer.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", answer.header.Get("Retry-After"))
	}
	close(release)
	if first := <-done; first.status >= 300 {
		t.Errorf("the first call: %d %s", first.status, first.body)
	}
	client.do("GET", "/v1/billing/charges", "").want(200)
}

func TestDescription(t *testing.T) {
	mesh := newMesh(t, nil)
	answer := newClient(t, mesh.address, defaults).do("GET", "/openapi.json", "")
	paths := answer.want(200)["paths"].(map[string]any)
	responses := func(path, verb string) map[string]any {
		return paths[path].(map[string]any)[verb].(map[string]any)["responses"].(map[string]any)
	}
	if responses("/v1/metering/events", "post")["202"] == nil || responses("/v1/payments", "post")["201"] == nil {
		t.Errorf("the description tells other statuses than the facade gives")
	}
	event := answer.want(200)["components"].(map[string]any)["schemas"].(map[string]any)["payments.metering.v1.UsageEvent"].(map[string]any)
	properties := event["properties"].(map[string]any)
	if event["additionalProperties"] != false || properties["time"] == nil || properties["event_time"] == nil ||
		properties["quantity"].(map[string]any)["pattern"] == nil {
		t.Errorf("the description leaves rules out: %v", event)
	}
	committed, err := os.ReadFile("../../../../gen/openapi/tollmesh.openapi.json")
	if err != nil || !json.Valid(committed) || !bytes.Equal(committed, answer.body) {
		t.Errorf("the served description is not the committed one (%v)", err)
	}
}

// A client that hangs up ends its call in the mesh.
func TestHangUpEndsTheCall(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error)
	mesh := newMesh(t, map[string]answer{
		chargeMethod: func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			close(entered)
			<-stream.Context().Done()
			ended <- stream.Context().Err()
			return nil, stream.Context().Err()
		},
	})
	client := newClient(t, mesh.address, defaults)
	ctx, hangUp := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, "POST", client.url+"/v1/billing/charges", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-entered; hangUp() }()
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
		t.Fatal("the call was to be cut off")
	}
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
		t.Error("the call goes on in the mesh")
	}
}
