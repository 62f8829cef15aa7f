package rest

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
)

const laterURL = "type.googleapis.com/payments.events.v1.OfALaterRelease"

func feedEvent(t *testing.T, id string, payload *anypb.Any) *eventsv1.Event {
	t.Helper()
	return &eventsv1.Event{Id: id, Payload: &eventsv1.Event_Message{Message: payload}}
}

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	found, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAMessageOfALaterReleaseIsWrittenAsBytes(t *testing.T) {
	later := &anypb.Any{TypeUrl: laterURL, Value: []byte{0x0a, 0x05, 0xff}}
	page := func() *eventsv1.ListEventsResponse {
		return &eventsv1.ListEventsResponse{Events: []*eventsv1.Event{
			feedEvent(t, "known", packed(t, &eventsv1.PlanCreated{PlanId: "p"})),
			feedEvent(t, "later", proto.Clone(later).(*anypb.Any)),
		}}
	}
	opaque := func(found map[string]any) bool { return found["@type"] == laterURL && found["value"] == "CgX/" }
	known := func(found map[string]any) bool { return found["plan_id"] == "p" }
	for name, answer := range map[string]any{
		"a page":             page(),
		"a list":             page().Events,
		"a result of a feed": map[string]any{"result": page()},
	} {
		text, err := newCodec().Marshal(answer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var read any
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		if !holds(read, opaque) || !holds(read, known) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestWhatJSONCannotSayIsWrittenAsBytes(t *testing.T) {
	for _, payload := range []*anypb.Any{
		packed(t, &eventsv1.ChargeCreated{CreatedAt: &timestamppb.Timestamp{Seconds: math.MaxInt64}}),
		{TypeUrl: "type.googleapis.com/payments.events.v1.PlanCreated", Value: []byte{0x0a, 0x05}},
	} {
		url := payload.TypeUrl
		text, err := newCodec().Marshal(feedEvent(t, "odd", payload))
		if err != nil {
			t.Fatal(err)
		}
		var read map[string]any
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		message, _ := read["message"].(map[string]any)
		if value, _ := message["value"].(string); message["@type"] != url || value == "" {
			t.Errorf("%s is not bytes of %s", text, url)
		}
	}
}

func TestAnAnswerThatFailsForAnotherReasonFails(t *testing.T) {
	if text, err := newCodec().Marshal(&eventsv1.Event{Id: "\xff"}); err == nil {
		t.Errorf("written as %s", text)
	}
}

// holds is true when one of the objects in a document is as wanted.
func holds(in any, wanted func(map[string]any) bool) bool {
	switch found := in.(type) {
	case map[string]any:
		if wanted(found) {
			return true
		}
		for _, item := range found {
			if holds(item, wanted) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(found, func(item any) bool { return holds(item, wanted) })
	}
	return false
}
