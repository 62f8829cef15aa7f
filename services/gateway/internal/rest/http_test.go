package rest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
	orchestrationv1 "tollmesh.dev/gen/go/payments/orchestration/v1"
)

const getChargeMethod = "/payments.billing.v1.ChargeService/GetCharge"

// oneCharge answers with a charge of so many lines.
func oneCharge(lines int) map[string]answer {
	return map[string]answer{
		getChargeMethod: func(request proto.Message, _ grpc.ServerStream) (proto.Message, error) {
			charge := &billingv1.Charge{ChargeId: request.(*billingv1.GetChargeRequest).GetChargeId()}
			for i := range lines {
				charge.Lines = append(charge.Lines, &billingv1.ChargeLine{LineId: strconv.Itoa(i), Sku: "sms"})
			}
			return &billingv1.GetChargeResponse{Charge: charge}, nil
		},
	}
}

func squeezed(t *testing.T, text []byte) string {
	t.Helper()
	out, err := compressed(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestASingleResourceIsNotSentTwice(t *testing.T) {
	client := newClient(t, newMesh(t, oneCharge(50)).address, defaults)
	plain := []string{"Accept-Encoding", "identity"}
	first := client.do("GET", "/v1/billing/charges/chg_1", "", plain...)
	first.want(200)
	tag := first.header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) || first.header.Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("a strong tag: %v", first.header)
	}
	if other := client.do("GET", "/v1/billing/charges/chg_2", "", plain...).header.Get("ETag"); other == tag {
		t.Error("another content has another tag")
	}
	for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		again := client.do("GET", "/v1/billing/charges/chg_1", "", append(plain, "If-None-Match", known)...)
		if again.status != 304 || len(again.body) > 0 || again.header.Get("ETag") != tag || again.header.Get("Content-Type") != "" {
			t.Errorf("%s: %d %v %s", known, again.status, again.header, again.body)
		}
	}
	for _, unknown := range []string{`"x"`, strings.Trim(tag, `"`), ""} {
		client.do("GET", "/v1/billing/charges/chg_1", "", append(plain, "If-None-Match", unknown)...).want(200)
	}
	// Compressed bytes are others, so their tag is; either stands for the charge.
	small := client.do("GET", "/v1/billing/charges/chg_1", "", "Accept-Encoding", "gzip")
	if got := small.header.Get("ETag"); got != strings.TrimSuffix(tag, `"`)+`-gzip"` {
		t.Errorf("tag of the compressed answer: %s", got)
	}
	again := client.do("GET", "/v1/billing/charges/chg_1", "", "Accept-Encoding", "gzip", "If-None-Match", small.header.Get("ETag"))
	if again.status != 304 || again.header.Get("ETag") != small.header.Get("ETag") {
		t.Errorf("%d %v", again.status, again.header)
	}
	for _, path := range []string{"/v1/billing/charges", "/v1/nothing"} {
		if got := client.do("GET", path, "").header.Get("ETag"); got != "" {
			t.Errorf("%s has a tag: %s", path, got)
		}
	}
	if got := client.do("POST", "/v1/billing/charges", "{}").header.Get("ETag"); got != "" {
		t.Errorf("an answer to POST has a tag: %s", got)
	}
	description := client.do("GET", "/openapi.json", "", plain...)
	if client.do("GET", "/openapi.json", "", append(plain, "If-None-Match", description.header.Get("ETag"))...).status != 304 {
		t.Errorf("the description is sent again: %v", description.header)
	}
}

func TestAnswersAreCompressedForWhoReadsThat(t *testing.T) {
	client := newClient(t, newMesh(t, oneCharge(50)).address, defaults)
	plain := client.do("GET", "/v1/billing/charges/chg_1", "", "Accept-Encoding", "identity")
	for accepted, want := range map[string]string{
		"gzip": "gzip", "br, gzip;q=0.5": "gzip", "*": "gzip", "GZIP": "gzip", "x-gzip": "gzip", "gzip;q=0": "", "identity": "",
		"br": "", "gzip;q=0, *": "", "*;q=0": "", "gzip;q=2": "", "gzip;q=NaN": "",
	} {
		answer := client.do("GET", "/v1/billing/charges/chg_1", "", "Accept-Encoding", accepted)
		body := answer.body
		if answer.header.Get("Content-Encoding") != want || answer.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %v", accepted, answer.header)
			continue
		}
		if want != "" {
			reader, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			body, _ = io.ReadAll(reader)
		}
		if !bytes.Equal(body, plain.body) {
			t.Errorf("%q: %.200s", accepted, body)
		}
		if answer.header.Get("Content-Length") != strconv.Itoa(len(answer.body)) {
			t.Errorf("%q: %d bytes, %v", accepted, len(answer.body), answer.header)
		}
	}
	short := newClient(t, newMesh(t, oneCharge(1)).address, defaults)
	if got := short.do("GET", "/v1/billing/charges/c", "", "Accept-Encoding", "gzip").header.Get("Content-Encoding"); got != "" {
		t.Errorf("a short answer is compressed: %s", got)
	}
}

func TestBodiesMayBeCompressed(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	body := []byte(`[{"request_id": "r1", "sku": "sms"}]`)
	client.do("POST", "/v1/metering/events", squeezed(t, body), "Content-Encoding", "gzip").want(202)
	if got := mesh.only().request.(*meteringv1.IngestEventsRequest).GetEvents(); len(got) != 1 || got[0].GetSku() != "sms" {
		t.Errorf("%v", got)
	}
	client.do("POST", "/v1/payments", squeezed(t, []byte("<pay/>")), "Content-Encoding", "X-GZIP")
	if client.do("GET", "/v1/billing/charges", squeezed(t, nil), "Content-Encoding", "gzip").status != 200 {
		t.Error("an empty body is none")
	}
	calls := mesh.count()
	// A bomb: 64 times what a body may have, in a few hundred bytes.
	bomb := squeezed(t, bytes.Repeat([]byte(" "), int(defaults.BodyBytesMax)*64))
	if int64(len(bomb)) > defaults.BodyBytesMax {
		t.Fatalf("no bomb: %d bytes", len(bomb))
	}
	client.do("POST", "/v1/metering/events", bomb, "Content-Encoding", "gzip").wantReason(413, "MESSAGE_TOO_LARGE")
	client.do("POST", "/v1/metering/events", squeezed(t, bytes.Repeat([]byte(" "), int(defaults.BodyBytesMax)+1)),
		"Content-Encoding", "gzip").wantReason(413, "MESSAGE_TOO_LARGE")
	half := squeezed(t, body)
	client.do("POST", "/v1/metering/events", half[:len(half)-6], "Content-Encoding", "gzip").wantReason(400, "UNDECODABLE_REQUEST")
	client.do("POST", "/v1/metering/events", half+"rest", "Content-Encoding", "gzip").wantReason(400, "UNDECODABLE_REQUEST")
	refused := client.do("POST", "/v1/metering/events", string(body), "Content-Encoding", "zstd")
	refused.wantReason(415, "CONTENT_ENCODING_UNSUPPORTED")
	if refused.header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("%v", refused.header)
	}
	if mesh.count() != calls {
		t.Error("a body that does not read reached the mesh")
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	mesh := newMesh(t, oneCharge(3))
	client := newClient(t, mesh.address, defaults)
	for _, path := range []string{"/v1/billing/charges/chg_1", "/v1/billing/charges", "/openapi.json", "/v1/nothing"} {
		get := client.do("GET", path, "", "Accept-Encoding", "identity")
		head := client.do("HEAD", path, "", "Accept-Encoding", "identity")
		if head.status != get.status || len(head.body) > 0 {
			t.Errorf("%s: %d %s", path, head.status, head.body)
		}
		for _, name := range []string{"Content-Type", "Content-Length", "ETag"} {
			// Of what is not there the error names the method.
			if head.header.Get(name) != get.header.Get(name) && (name != "Content-Length" || get.status == 200) {
				t.Errorf("%s: %s %q, not %q", path, name, head.header.Get(name), get.header.Get(name))
			}
		}
	}
	tag := client.do("HEAD", "/v1/billing/charges/chg_1", "").header.Get("ETag")
	if client.do("HEAD", "/v1/billing/charges/chg_1", "", "If-None-Match", tag).status != 304 {
		t.Error("HEAD has conditions too")
	}
	refused := client.do("HEAD", "/v1/events:replay", "")
	if refused.status != 405 || refused.header.Get("Allow") != "POST" {
		t.Errorf("%d %v", refused.status, refused.header)
	}
	mesh.answers[tailMethod] = func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
		_ = stream.SendHeader(metadata.Pairs("x-request-id", "r"))
		<-stream.Context().Done()
		return nil, stream.Context().Err()
	}
	tail := client.do("HEAD", "/v1/events:tail", "", "Accept", "text/event-stream")
	if tail.status != 200 || tail.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v", tail.status, tail.header)
	}
}

func TestBodiesOfOtherTypesAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, contentType := range []string{"application/json", "Application/JSON; charset=UTF-8", `application/json;charset="utf-8"`} {
		client.do("PUT", "/v1/merchant-configs/shop", "{}", "Content-Type", contentType).want(200)
	}
	client.do("PUT", "/v1/merchant-configs/shop", "{}").want(200)
	client.do("POST", "/v1/access/keys/k:revoke", "", "Content-Type", "text/plain").want(200)
	client.do("GET", "/v1/billing/charges", "", "Content-Type", "text/plain").want(200)
	calls := mesh.count()
	for _, contentType := range []string{
		"application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-16", "application/xml", "json", ";",
		"application/json, text/plain", strings.Repeat("x", 300),
	} {
		refused := client.do("PUT", "/v1/merchant-configs/shop", "{}", "Content-Type", contentType)
		refused.wantReason(415, "CONTENT_TYPE_UNSUPPORTED")
		refused.wantOurs()
	}
	client.do("POST", "/v1/nothing", "{}", "Content-Type", "text/plain").wantReason(404, "NO_ROUTE")
	if mesh.count() != calls {
		t.Error("a body of another type reached the mesh")
	}
	// Whatever a merchant's system says of its request, it travels.
	client.do("POST", "/v1/payments", "<pay/>", "Content-Type", "application/xml")
	if mesh.count() != calls+1 {
		t.Error("a raw body is of any type")
	}
}

func TestSchedulesAreDeleted(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	client.do("DELETE", "/v1/schedules/nightly", "", "Idempotency-Key", "k").want(200)
	client.do("DELETE", "/v1/schedules/nightly?request_id=r", "").want(200)
	if got := mesh.seen(1).request.(*eventsv1.DeleteScheduleRequest); got.GetName() != "nightly" || got.GetRequestId() != "r" {
		t.Errorf("%v", got)
	}
	if got := mesh.seen(0).metadata.Get("idempotency-key"); len(got) != 1 || got[0] != "k" {
		t.Errorf("%v", got)
	}
}

func TestListsLinkTheirNextPage(t *testing.T) {
	token := "a+b/=&<c>"
	events := []*eventsv1.Event{{Id: "e"}}
	mesh := newMesh(t, map[string]answer{
		"/payments.billing.v1.ChargeService/ListCharges": func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &billingv1.ListChargesResponse{NextPageToken: token}, nil
		},
		"/payments.events.v1.EventService/ListEvents": func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &eventsv1.ListEventsResponse{NextCursor: "c", Events: events}, nil
		},
	})
	client := newClient(t, mesh.address, defaults)
	for path, want := range map[string]string{
		"/v1/billing/charges":                           "</v1/billing/charges?page_token=a%2Bb%2F%3D%26%3Cc%3E>; rel=\"next\"",
		"/v1/billing/charges?org_id=a%26b&page_token=x": "</v1/billing/charges?org_id=a%26b&page_token=a%2Bb%2F%3D%26%3Cc%3E>; rel=\"next\"",
		"/v1/billing/charges?pageToken=x&page_size=2":   "</v1/billing/charges?page_size=2&page_token=a%2Bb%2F%3D%26%3Cc%3E>; rel=\"next\"",
		"/v1/events?subjects=a.b&subjects=c.d&after=x":  "</v1/events?after=c&subjects=a.b&subjects=c.d>; rel=\"next\"",
		"/v1/ledger/accounts":                           "",
		"/v1/billing/charges/chg_1":                     "",
	} {
		answer := client.do("GET", path, "")
		if got := strings.Join(answer.header.Values("Link"), "|"); got != want {
			t.Errorf("%s: %s", path, got)
		}
		if want != "" {
			next, _, _ := strings.Cut(want[1:], ">")
			client.do("GET", next, "").want(200)
		}
	}
	events = nil
	if got := client.do("GET", "/v1/events?after=x", "").header.Get("Link"); got != "" {
		t.Errorf("behind the last page: %s", got)
	}
	token = ""
	if got := client.do("GET", "/v1/billing/charges", "").header.Get("Link"); got != "" {
		t.Errorf("the last page: %s", got)
	}
}

func TestPagesOfOthersMayCallWhereThatIsSet(t *testing.T) {
	mesh := newMesh(t, nil)
	limits := defaults
	limits.Origins = []string{"https://console.example"}
	ask := []string{"Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "authorization,idempotency-key"}
	for name, client := range map[string]client{"off": newClient(t, mesh.address, defaults), "on": newClient(t, mesh.address, limits)} {
		for origin, allowed := range map[string]bool{"https://console.example": name == "on", "https://evil.example": false} {
			preflight := client.do("OPTIONS", "/v1/schedules/x", "", append(ask, "Origin", origin)...)
			answer := client.do("GET", "/v1/billing/charges", "", "Origin", origin)
			answer.want(200)
			for _, got := range []reply{preflight, answer} {
				if (got.header.Get("Access-Control-Allow-Origin") == origin) != allowed {
					t.Errorf("%s, %s: %v", name, origin, got.header)
				}
				if got.header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("no cookie counts: %v", got.header)
				}
			}
			if allowed && (preflight.status != 204 || preflight.header.Get("Access-Control-Allow-Methods") != "DELETE" ||
				!strings.Contains(answer.header.Get("Access-Control-Expose-Headers"), "Link")) {
				t.Errorf("%d %v %v", preflight.status, preflight.header, answer.header)
			}
			if name == "off" && preflight.status != 405 {
				t.Errorf("off: %d", preflight.status)
			}
		}
	}
	refused := newClient(t, mesh.address, limits).do("GET", "/v1/nothing", "", "Origin", "https://console.example")
	if refused.header.Get("Access-Control-Allow-Origin") == "" {
		t.Error("a page reads errors too")
	}
	for _, origin := range []string{"console.example", "https://a.example/", "https://a.example/x", "ftp://a", "https://", ""} {
		if CheckOrigins([]string{origin}) == nil {
			t.Errorf("%q is an origin", origin)
		}
	}
}

// tailing answers a tail with two events, the first one only when it starts at the beginning, and then waits.
func tailing(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
	if err := stream.SendHeader(metadata.Pairs("x-request-id", "r")); err != nil {
		return nil, err
	}
	for i := range 2 {
		event := &eventsv1.Event{Id: fmt.Sprint("e", i), Subject: "a.b"}
		if err := stream.SendMsg(&eventsv1.TailEventsResponse{Event: event, Cursor: fmt.Sprint("c", i)}); err != nil {
			return nil, err
		}
	}
	<-stream.Context().Done()
	return nil, stream.Context().Err()
}

// A stream may be of one thing, which the path names: it is a stream all the same.
func TestAStreamOfWhatThePathNames(t *testing.T) {
	state := &orchestrationv1.WatchPaymentResponse{Payment: &orchestrationv1.Payment{PaymentId: "pay_1"}}
	mesh := newMesh(t, map[string]answer{
		"/payments.orchestration.v1.PaymentService/WatchPayment": func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			if err := stream.SendHeader(metadata.Pairs("x-request-id", "r")); err != nil {
				return nil, err
			}
			return state, stream.SendMsg(state)
		},
	})
	answer, reader := newClient(t, mesh.address, defaults).lines("/v1/payments/pay_1:watch", "Accept", "text/event-stream")
	body, err := io.ReadAll(reader)
	if err != nil || answer.Header.Get("Content-Type") != "text/event-stream" || strings.Count(string(body), "data: {") != 2 {
		t.Errorf("%v %v %s", err, answer.Header, body)
	}
	if got := mesh.only().request.(*orchestrationv1.WatchPaymentRequest).GetPaymentId(); got != "pay_1" {
		t.Errorf("watched %q", got)
	}
}

// lines reads a stream as it comes.
func (c client) lines(path string, headers ...string) (*http.Response, *bufio.Reader) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	request, err := http.NewRequestWithContext(ctx, "GET", c.url+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	return response, bufio.NewReader(response.Body)
}

// block reads up to the next empty line.
func block(t *testing.T, reader *bufio.Reader) []string {
	t.Helper()
	var found []string
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, found)
		}
		if line == "\n" {
			return found
		}
		found = append(found, strings.TrimSuffix(line, "\n"))
	}
}

func TestATailIsServerSentEventsForWhoAsks(t *testing.T) {
	keepAliveEvery = 20 * time.Millisecond
	t.Cleanup(func() { keepAliveEvery = 15 * time.Second })
	mesh := newMesh(t, map[string]answer{tailMethod: tailing})
	client := newClient(t, mesh.address, defaults)
	response, reader := client.lines("/v1/events:tail?subjects=a.b&after=old&from_start=true",
		"Accept", "text/event-stream", "Last-Event-ID", "c7", "Accept-Encoding", "gzip")
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" ||
		response.Header.Get("Content-Encoding") != "" || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	if got := block(t, reader); len(got) != 1 || got[0] != "retry: 2000" {
		t.Errorf("%q", got)
	}
	for i := range 2 {
		got := block(t, reader)
		for len(got) == 1 && got[0] == ": alive" {
			got = block(t, reader)
		}
		var data struct{ Event struct{ ID, Subject string } }
		if len(got) != 2 || got[0] != fmt.Sprint("id: c", i) ||
			json.Unmarshal([]byte(strings.TrimPrefix(got[1], "data: ")), &data) != nil || data.Event.ID != fmt.Sprint("e", i) {
			t.Fatalf("%q", got)
		}
	}
	if got := block(t, reader); len(got) != 1 || got[0] != ": alive" {
		t.Errorf("a silent stream says that it lives: %q", got)
	}
	request := mesh.only().request.(*eventsv1.TailEventsRequest)
	if request.GetAfter() != "c7" || request.GetFromStart() || len(request.GetSubjects()) != 1 {
		t.Errorf("it goes on behind the last event: %v", request)
	}
	lines, reader := client.lines("/v1/events:tail?after=x", "Last-Event-ID", "c7", "Accept", "application/json")
	line, err := reader.ReadString('\n')
	if lines.Header.Get("Content-Type") != "application/json" || err != nil || !strings.HasPrefix(line, `{"result":`) {
		t.Errorf("%v %q %v", lines.Header, line, err)
	}
	if got := mesh.seen(1).request.(*eventsv1.TailEventsRequest).GetAfter(); got != "x" {
		t.Errorf("Last-Event-ID is of event streams alone: %q", got)
	}
}

func TestATailBeginsBeforeItsFirstEvent(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		tailMethod: func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			_ = stream.SendHeader(metadata.Pairs("x-request-id", "r"))
			<-stream.Context().Done()
			return nil, stream.Context().Err()
		},
	})
	client := newClient(t, mesh.address, defaults)
	for _, accept := range []string{"text/event-stream", "application/json"} {
		if response, _ := client.lines("/v1/events:tail", "Accept", accept); response.StatusCode != 200 {
			t.Errorf("%d", response.StatusCode)
		}
	}
}

// A tail that is refused is answered as any other call: a browser then does not try again for ever.
func TestATailThatIsRefusedHasAnOrdinaryError(t *testing.T) {
	refusals := map[int]error{
		400: fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "no", nil).Err(),
		401: fault(codes.Unauthenticated, errorsv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "no", nil).Err(),
		503: status.Error(codes.Unavailable, "no"),
	}
	for code, refusal := range refusals {
		mesh := newMesh(t, map[string]answer{
			tailMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) { return nil, refusal },
		})
		for _, accept := range []string{"text/event-stream", "application/json"} {
			answer := newClient(t, mesh.address, defaults).do("GET", "/v1/events:tail", "", "Accept", accept)
			answer.want(code)
			answer.wantOurs()
			if (code == 401) != (answer.header.Get("WWW-Authenticate") != "") || (code == 503) != (answer.header.Get("Retry-After") != "") {
				t.Errorf("%d: %v", code, answer.header)
			}
		}
	}
	mesh := newMesh(t, map[string]answer{
		tailMethod: func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			_ = stream.SendMsg(&eventsv1.TailEventsResponse{Event: &eventsv1.Event{Id: "e"}, Cursor: "c"})
			return nil, status.Error(codes.Unavailable, "going down")
		},
	})
	answer := newClient(t, mesh.address, defaults).do("GET", "/v1/events:tail", "", "Accept", "text/event-stream")
	if !strings.Contains(string(answer.body), "\nevent: problem\ndata: {") || !strings.Contains(string(answer.body), "DEPENDENCY_UNAVAILABLE") {
		t.Errorf("an event stream that breaks off says so: %s", answer.body)
	}
	client := newClient(t, mesh.address, defaults)
	client.do("GET", "/v1/events:tail", "", "Accept", "text/event-stream", "Last-Event-ID", "a", "Last-Event-ID", "b").
		wantReason(400, "INVALID_FIELD")
	client.do("GET", "/v1/events:tail", "", "Accept", "text/event-stream", "Last-Event-ID", "c\xff").
		wantReason(400, "INVALID_FIELD")
}

// The page loads what stands in it from here, and nothing else: no address of others stands in it, and none may be loaded.
func TestThePageOfTheDescriptionNeedsNobodyElse(t *testing.T) {
	client := newClient(t, newMesh(t, nil).address, defaults)
	page := client.do("GET", "/docs", "")
	policy := page.header.Get("Content-Security-Policy")
	if page.status != 200 || page.header.Get("Content-Type") != "text/html; charset=utf-8" ||
		!strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
		t.Fatalf("%d %v", page.status, page.header)
	}
	loaded := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(string(page.body), -1)
	if len(loaded) < 4 || strings.Contains(string(page.body), "://") {
		t.Errorf("%s", page.body)
	}
	for _, match := range loaded {
		if strings.HasPrefix(match[1], "data:") {
			continue
		}
		file := client.do("GET", match[1], "", "Accept-Encoding", "gzip")
		if file.status != 200 || file.header.Get("Content-Encoding") != "gzip" && len(file.body) > gzipBytesMin {
			t.Errorf("%s: %d %v", match[1], file.status, file.header)
		}
		if client.do("GET", match[1], "", "If-None-Match", file.header.Get("ETag")).status != 304 {
			t.Errorf("%s is sent again", match[1])
		}
	}
	client.do("POST", "/docs", "{}").wantReason(405, "METHOD_NOT_ALLOWED")
	client.do("GET", "/docs/x", "").wantReason(404, "NO_ROUTE")
}

// Each list and each thing of the schemas is told apart by its shape; a new one that is neither would be a surprise.
func TestEveryGetIsAPageAStreamOrAThing(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	tagged := 0
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if rule.GetGet() == "" || method.IsStreamingServer() {
			return
		}
		answer := client.do("GET", pathVariable.ReplaceAllString(rule.GetGet(), "x"), "")
		name := string(method.Name())
		// A statement is read page by page as well.
		isList := strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Export") || name == "GetStatement"
		if has := answer.header.Get("ETag") != ""; has == isList {
			t.Errorf("%s: tag %v, list %v", method.FullName(), has, isList)
		} else if has {
			tagged++
		}
	})
	if tagged < 8 {
		t.Errorf("only %d", tagged)
	}
}
