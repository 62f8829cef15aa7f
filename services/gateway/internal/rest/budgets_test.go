package rest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
)

const listMethod = "/payments.billing.v1.ChargeService/ListCharges"

// slowly opens a connection that announces a body and sends none of it.
func slowly(t *testing.T, client client, key string) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(client.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_, err = fmt.Fprintf(connection, "POST /v1/billing/charges HTTP/1.1\r\nHost: a\r\n%sContent-Length: 2\r\n\r\n", key)
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

// Who sends bodies slowly keeps nobody's call from being made, whether it shows a key or not.
func TestSlowBodiesHoldNoSlot(t *testing.T) {
	const slow = 300
	for _, header := range []string{"", "Authorization: Bearer wrong\r\n"} {
		mesh := newMesh(t, nil)
		client := newClient(t, mesh.address, defaults)
		var connections []net.Conn
		for range slow {
			connections = append(connections, slowly(t, client, header))
		}
		// The first are answered as soon as there are too many: so all of these have begun.
		for _, connection := range connections[:slow-strangerBodiesMax] {
			answer := make([]byte, len("HTTP/1.1 408"))
			_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != "HTTP/1.1 408" {
				t.Fatalf("%q, %v", answer, err)
			}
		}
		client.do("GET", "/v1/billing/charges", "").want(200)
		for range 2 * strangerBodiesMax {
			if made := client.do("POST", "/v1/billing/charges", `{}`, "Authorization", "Bearer new"); made.status != 201 {
				t.Fatal(made.status, string(made.body))
			}
		}
	}
}

// A caller whose key is good has bodies of its own, and not more than its part.
func TestBodiesOfOneCallerAreBounded(t *testing.T) {
	budgets := newBudgets(defaults)
	one, other := caller{1}, caller{2}
	for range callerBodiesMax {
		if !budgets.bodies.take(one, 1) {
			t.Fatal("less than its part")
		}
	}
	if budgets.bodies.take(one, 1) || !budgets.bodies.take(other, 1) {
		t.Error("one has the other's part")
	}
	budgets.bodies.giveBack(one, 1)
	if !budgets.bodies.take(one, 1) {
		t.Error("what was given back is lost")
	}
}

func TestSharesLeaveSomethingForOthers(t *testing.T) {
	for total := range int64(20) {
		shares := newBudgets(Limits{InFlightMax: int(total), StreamsMax: int(total)})
		for _, s := range []*share{shares.calls, shares.streams} {
			taken := int64(0)
			for s.take(caller{1}, 1) {
				taken++
			}
			for s.take(stranger, 1) {
				taken++
			}
			if taken > total || total > 1 && taken == 0 {
				t.Errorf("%d of %d", taken, total)
			}
			if s.taken != taken || s.held[caller{1}] > s.each || s.held[stranger] > s.strangers {
				t.Errorf("%d taken, not %d", s.taken, taken)
			}
			for who, held := range s.held {
				s.giveBack(who, held)
			}
			if s.taken != 0 || len(s.held) != 0 {
				t.Errorf("something is left: %v", s.held)
			}
		}
	}
}

func TestBytesOfBodiesAreBounded(t *testing.T) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write(make([]byte, 1<<20))
	_ = writer.Close()
	budgets := newBudgets(defaults)
	budgets.bytes = newShare(3<<20, 2<<20, 512<<10)
	by := func(c caller) *lease { return &lease{budgets: budgets, by: c} }

	if _, err := decompressed(packed.Bytes(), 2<<20, by(stranger)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stranger's body unpacks to more than strangers have: %v", err)
	}
	budgets.bytes.giveBack(stranger, budgets.bytes.held[stranger]) // by its call, once it ends
	held := by(caller{1})
	for range 2 {
		if _, err := io.ReadAll(held.counted(bytes.NewReader(make([]byte, 1<<20)))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadAll(held.counted(strings.NewReader("x"))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than its part: %v", err)
	}
	other := by(caller{2})
	if _, err := io.ReadAll(other.counted(bytes.NewReader(make([]byte, 1<<20)))); err != nil {
		t.Errorf("the other has none: %v", err)
	}
	held.end()
	other.end()
	other.end()
	if budgets.bytes.taken != 0 {
		t.Errorf("%d bytes are held by nobody", budgets.bytes.taken)
	}
}

// Whose key is good says the mesh, each time anew.
func TestACallerIsKnownOnceTheMeshLetItIn(t *testing.T) {
	var code codes.Code
	mesh := newMesh(t, map[string]answer{listMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
		if code == codes.OK {
			return nil, nil
		}
		return nil, status.Error(code, "no")
	}})
	connection, err := Dial(t.Context(), mesh.address, defaults.Deadline)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := NewHandler(t.Context(), connection, defaults)
	if err != nil {
		t.Fatal(err)
	}
	known := &handler.(*facade).budgets.known
	header := http.Header{"Authorization": {"Bearer k"}}
	for _, step := range []struct {
		code codes.Code
		want bool
	}{
		{codes.Unauthenticated, false}, {codes.ResourceExhausted, false}, {codes.NotFound, true},
		{codes.Unavailable, true}, {codes.Unauthenticated, false}, {codes.PermissionDenied, true},
	} {
		code = step.code
		request := httptest.NewRequest("GET", "/v1/billing/charges", nil)
		request.Header = header.Clone()
		handler.ServeHTTP(discard{http.Header{}}, request)
		if got := known.has(shownBy(header)); got != step.want {
			t.Errorf("known after %s: %v", step.code, got)
		}
	}
	for number := range 3 * knownMax {
		known.meet(caller{byte(number), byte(number >> 8), 1})
	}
	if len(known.newer)+len(known.older) > 2*knownMax {
		t.Error("too many are remembered")
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header          { return d.header }
func (discard) Write(text []byte) (int, error) { return len(text), nil }
func (discard) WriteHeader(int)                {}

// Streams that stay open take no slot of calls, and one key has not all of them.
func TestStreamsHoldNoSlot(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		"/payments.events.v1.EventService/TailEvents": func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			if err := stream.SendHeader(metadata.Pairs("x-request-id", "r")); err != nil {
				return nil, err
			}
			if err := stream.SendMsg(&eventsv1.TailEventsResponse{}); err != nil {
				return nil, err
			}
			<-stream.Context().Done()
			return nil, stream.Context().Err()
		},
	})
	limits := defaults
	limits.InFlightMax, limits.StreamsMax = 1, 4
	client := newClient(t, mesh.address, limits)
	tail := func(key string) *http.Response {
		request, _ := http.NewRequestWithContext(t.Context(), "GET", client.url+"/v1/events:tail", nil)
		request.Header.Set("Authorization", key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
	for range 2 {
		if got := tail("a"); got.StatusCode != 200 {
			t.Fatal(got.StatusCode)
		}
	}
	refused := tail("a")
	if refused.StatusCode != 429 || refused.Header.Get("Retry-After") != "1" {
		t.Errorf("a third stream of one key: %d", refused.StatusCode)
	}
	if got := tail("b"); got.StatusCode != 200 {
		t.Errorf("a stream of another key: %d", got.StatusCode)
	}
	client.do("GET", "/v1/billing/charges", "").want(200)
}
