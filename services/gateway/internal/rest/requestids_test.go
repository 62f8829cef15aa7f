package rest

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
)

// cards are ids that hold a card number, in ways that the mesh knows.
var cards = []string{
	"card-4242424242424242", "4242.4242.4242.4242", "%36011000990139424", `\u0034242424242424242`,
	"&#52;242 4242 4242 4242", strings.Repeat("&#xAEA;", 16), "%D9%A4242424242424242", "42424242-4242-4242-8242-424242424242", "aaaa4242-4242-4242-4242-424242424242",
}

// keepsNone is a mesh that calls each call by another id than it was sent, in every way of gRPC to say so.
func keepsNone(t *testing.T) *mesh {
	own := metadata.Pairs("x-request-id", "given by the mesh")
	return newMesh(t, map[string]answer{
		"/payments.billing.v1.ChargeService/GetCharge": func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			stream.SetTrailer(own)
			return &billingv1.GetChargeResponse{Charge: &billingv1.Charge{ChargeId: "chg_1"}}, nil
		},
		"/payments.billing.v1.ChargeService/ListCharges": func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			return &billingv1.ListChargesResponse{}, stream.SetHeader(own)
		},
		chargeMethod: func(_ proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			stream.SetTrailer(own)
			return nil, status.Error(codes.Internal, "")
		},
		tailMethod: func(request proto.Message, stream grpc.ServerStream) (proto.Message, error) {
			if request.(*eventsv1.TailEventsRequest).GetAfter() == "" {
				stream.SetTrailer(own)
				return nil, status.Error(codes.Internal, "")
			}
			if err := stream.SetHeader(own); err != nil {
				return nil, err
			}
			event := &eventsv1.Event{Id: "e1"}
			if err := stream.SendMsg(&eventsv1.TailEventsResponse{Event: event}); err != nil {
				return nil, err
			}
			return nil, status.Error(codes.Internal, "")
		},
	})
}

func TestAnAnswerNamesTheCallAsTheMeshDoes(t *testing.T) {
	client := newClient(t, keepsNone(t).address, defaults)
	for _, sent := range append(cards, "r1", "") {
		for call, code := range map[string]int{
			"GET /v1/billing/charges/chg_1": 200, "GET /v1/billing/charges": 200, "POST /v1/billing/charges": 500,
			"GET /v1/events:tail": 500, "GET /v1/events:tail?after=x": 200,
		} {
			method, path, _ := strings.Cut(call, " ")
			answer := client.do(method, path, "", "X-Request-Id", sent, "TE", "trailers")
			if got := answer.header.Values("X-Request-Id"); answer.status != code || len(got) != 1 || got[0] != "given by the mesh" {
				t.Errorf("%s: %d %q", call, answer.status, got)
			}
			faulty := strings.Contains(string(answer.body), "internal error")
			if faulty != strings.Contains(string(answer.body), "request id given by the mesh") ||
				sent != "" && sent != "r1" && strings.Contains(string(answer.body), sent) {
				t.Errorf("%s: %s", call, answer.body)
			}
		}
	}
}

// Without a word of the mesh an id that may hold a card number is not repeated; all others are.
func TestCardNumbersAreNotRepeatedWhereTheMeshSaysNothing(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	kept := []string{
		"r1", "run-20261120", "0af76519-16cd-43dd-8448-eb211c80319c", "0AF7651916CD43DD8448EB211C80319C",
		"01JCX3Q9M2ZK7V4T8B5N6P0RSD",
	}
	calls := func(id string) []reply {
		return []reply{
			client.do("GET", "/v1/billing/charges", "", "X-Request-Id", id),
			client.do("GET", "/v1/nothing", "", "X-Request-Id", id),
			client.do("POST", "/v1/billing/charges", "{", "X-Request-Id", id),
			client.do("GET", "/readyz", "", "X-Request-Id", id),
			client.do("GET", "/v1/billing/charges", "", "X-Request-Id", id, "Authorization", "Mesh a.b.c"),
			client.do("GET", "/v1/events:tail", "", "X-Request-Id", id),
		}
	}
	for _, stop := range []bool{false, true} {
		if stop {
			mesh.server.Stop()
		}
		for _, id := range kept {
			for i, answer := range calls(id) {
				if got := answer.header.Get("X-Request-Id"); got != id {
					t.Errorf("%s %d: %q", id, i, got)
				}
			}
		}
		for _, id := range cards {
			for i, answer := range calls(id) {
				if got := answer.header.Get("X-Request-Id"); len(got) != 36 || got == id || strings.Contains(string(answer.body), id) {
					t.Errorf("%s %d: %q %s", id, i, got, answer.body)
				}
			}
		}
	}
	answer := client.do("GET", "/v1/billing/charges", "", "X-Request-Id", cards[0], "X-Request-Id", cards[1])
	answer.wantReason(400, "INVALID_FIELD")
	if got := answer.header.Get("X-Request-Id"); len(got) != 36 || strings.Contains(string(answer.body), "4242") {
		t.Errorf("%q %s", got, answer.body)
	}
}
