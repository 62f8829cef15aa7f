package rest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
	eventsv1 "tollmesh.dev/gen/go/payments/events/v1"
)

const listEventsMethod = "/payments.events.v1.EventService/ListEvents"

func TestCloudEventsTravelByteForByte(t *testing.T) {
	body := "[ {\"id\": 1e400, \"id\": \xff} ]\r\n"
	for _, contentType := range []string{
		"application/cloudevents+json; charset=utf-8", "application/cloudevents-batch+json", "text/plain",
	} {
		mesh := newMesh(t, nil)
		newClient(t, mesh.address, defaults).do("POST", "/v1/events:cloudevents", body,
			"Content-Type", contentType).want(200)
		request := mesh.only().request.(*eventsv1.PublishCloudEventsRequest)
		if !bytes.Equal(request.GetRawRequest(), []byte(body)) || request.GetContentType() != contentType {
			t.Errorf("%s became %v", contentType, request)
		}
		if len(request.GetHeaders()) != 0 {
			t.Errorf("only attributes travel: %v", request.GetHeaders())
		}
	}
}

func TestAttributesOfBinaryModeTravel(t *testing.T) {
	mesh := newMesh(t, nil)
	newClient(t, mesh.address, defaults).do("POST", "/v1/events:cloudevents", "{}",
		"Content-Type", "application/json", "ce-Id", "a", "CE-SOURCE", "/x%20y", "Cepheus", "no").want(200)
	request := mesh.only().request.(*eventsv1.PublishCloudEventsRequest)
	want := map[string]string{"ce-id": "a", "ce-source": "/x%20y"}
	if len(request.GetHeaders()) != len(want) {
		t.Fatalf("%v", request.GetHeaders())
	}
	for name, value := range want {
		if request.GetHeaders()[name] != value {
			t.Errorf("%s: %q", name, request.GetHeaders()[name])
		}
	}
}

// Joined to one text, two ids would be a third that nobody sent.
func TestHeadersOfAnEventThatDoNotSayOneThingAreRefused(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, refused := range []struct{ name, one, other, told string }{
		{"Ce-Id", "a", "b", "twice"},
		{"Ce-Id", "a", "", "twice"},
		{"Ce-Partitionkey", "k1", "k2", "twice"},
		{"Ce-Anything", "k", "K", "twice"},
		{"Content-Type", "application/json", "application/cloudevents+json", "twice"},
		{"Ce-Subject", "\xff", "\xff", "UTF-8"},
		{"Content-Type", "\xff", "\xff", "UTF-8"},
	} {
		answer := client.do("POST", "/v1/events:cloudevents", "{}", refused.name, refused.one, refused.name, refused.other)
		details := answer.wantReason(400, "INVALID_FIELD")
		violation := details["BadRequest"]["field_violations"].([]any)[0].(map[string]any)
		if violation["field"] != refused.name || !strings.Contains(violation["description"].(string), refused.told) {
			t.Errorf("%v: %v", refused, violation)
		}
	}
	if mesh.count() != 0 {
		t.Error("a header that was refused reached the mesh")
	}
	client.do("POST", "/v1/events:cloudevents", "{}", "ce-id", "a", "CE-ID", "a",
		"Content-Type", "application/json", "Content-Type", "application/json").want(200)
	request := mesh.only().request.(*eventsv1.PublishCloudEventsRequest)
	if request.GetHeaders()["ce-id"] != "a" || request.GetContentType() != "application/json" {
		t.Errorf("%v", request)
	}
}

func TestContentTypeInNoModeIs415(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		"/payments.events.v1.EventService/PublishCloudEvents": func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return nil, fault(codes.InvalidArgument,
				errorsv1.ErrorReason_ERROR_REASON_CLOUD_EVENTS_CONTENT_TYPE, "send JSON", nil).Err()
		},
	})
	newClient(t, mesh.address, defaults).do("POST", "/v1/events:cloudevents", "x").
		wantReason(415, "CLOUD_EVENTS_CONTENT_TYPE")
}

func TestHeadersOfOtherCallsStayBehind(t *testing.T) {
	request := &eventsv1.PublishEventsRequest{}
	if err := setHeaders(request.ProtoReflect(), http.Header{"Ce-Id": {"\xff"}}); err != nil {
		t.Error(err)
	}
}

func TestBareBatchOfCloudEvents(t *testing.T) {
	batch := `[{"specversion":"1.0","data":{"n":90071992547409.93}}]`
	for accept, bare := range map[string]bool{
		"application/cloudevents-batch+json":                               true,
		"text/html, Application/CloudEvents-Batch+JSON;q=0.5;x=y, */*":     true,
		"application/json;q=0.4, application/cloudevents-batch+json;q=0.4": true,
		"application/json, application/cloudevents-batch+json;q=0.9":       false,
		"application/cloudevents-batch+json;q=0":                           false,
		"application/cloudevents-batch+json;q=much":                        false,
		"application/cloudevents+json":                                     false,
		"tollmesh/bare-batch":                                              false,
		"*/*":                                                              false,
		"":                                                                 false,
	} {
		mesh := newMesh(t, map[string]answer{
			listEventsMethod: func(request proto.Message, _ grpc.ServerStream) (proto.Message, error) {
				response := &eventsv1.ListEventsResponse{NextCursor: "c+/="}
				if request.(*eventsv1.ListEventsRequest).GetRendering() == eventsv1.Rendering_RENDERING_CLOUD_EVENTS {
					response.CloudEvents = []byte(batch)
				}
				return response, nil
			},
		})
		answer := newClient(t, mesh.address, defaults).do("GET",
			"/v1/events?subjects=a.b&subjects=c.*&after=old&page_size=2", "", "Accept", accept)
		request := mesh.only().request.(*eventsv1.ListEventsRequest)
		if len(request.GetSubjects()) != 2 || request.GetAfter() != "old" || request.GetPageSize() != 2 {
			t.Errorf("%q: %v", accept, request)
		}
		if !bare {
			answer.want(200)
			if answer.header.Get("Content-Type") != "application/json" || answer.header.Get("Link") != "" {
				t.Errorf("%q: %v", accept, answer.header)
			}
			continue
		}
		if answer.status != 200 || string(answer.body) != batch {
			t.Errorf("%q: %d %s", accept, answer.status, answer.body)
		}
		for name, want := range map[string]string{
			"Content-Type":         "application/cloudevents-batch+json",
			"Tollmesh-Next-Cursor": "c+/=",
			"Link":                 `</v1/events?after=c%2B%2F%3D&page_size=2&subjects=a.b&subjects=c.%2A>; rel="next"`,
			"Vary":                 "Accept, Accept-Encoding",
		} {
			if answer.header.Get(name) != want {
				t.Errorf("%q: %s: %q", accept, name, answer.header.Get(name))
			}
		}
	}
}

func TestErrorsOfABareBatchAreJSON(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, query := range []string{"page_size=many", "pagesize=1", "after=%zz"} {
		answer := client.do("GET", "/v1/events?"+query, "", "Accept", "application/cloudevents-batch+json")
		answer.wantReason(400, "INVALID_FIELD")
		if answer.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", query, answer.header)
		}
	}
	if mesh.count() != 0 {
		t.Error("a query that is refused reached the mesh")
	}
}

// The query alone asks for the field of the answer, not for another form of it.
func TestRenderingInTheQuery(t *testing.T) {
	mesh := newMesh(t, map[string]answer{
		listEventsMethod: func(proto.Message, grpc.ServerStream) (proto.Message, error) {
			return &eventsv1.ListEventsResponse{CloudEvents: []byte("[]")}, nil
		},
	})
	answer := newClient(t, mesh.address, defaults).do("GET", "/v1/events?rendering=RENDERING_CLOUD_EVENTS", "",
		"Content-Type", "application/cloudevents-batch+json").want(200)
	if answer["cloud_events"] != "W10=" {
		t.Errorf("%v", answer)
	}
}
