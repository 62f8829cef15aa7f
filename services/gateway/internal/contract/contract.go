// Package contract reads from a schema how its RPCs look over HTTP, beyond what google.api.http says. The
// facade and its OpenAPI description both ask here, so they cannot disagree.
package contract

import (
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// accepting RPCs take work over, item by item, and say what became of each.
var accepting = map[protoreflect.FullName]bool{
	"payments.metering.v1.MeteringService.IngestCloudEvents": true,
	"payments.metering.v1.MeteringService.IngestEvents":      true,
}

// SuccessStatus is the HTTP status of an RPC's success: 202 where work was taken over, 201 where an RPC
// named Create… answers with the one resource that it made, 200 else.
func SuccessStatus(method protoreflect.MethodDescriptor) int {
	switch {
	case accepting[method.FullName()]:
		return http.StatusAccepted
	case strings.HasPrefix(string(method.Name()), "Create") && ResourceField(method.Output()) != nil:
		return http.StatusCreated
	}
	return http.StatusOK
}

// ResourceField is the field of a response that holds the one resource it is about: a message with an id of its
// own. Nil when there is none.
func ResourceField(response protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	fields := response.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() != nil && field.Cardinality() != protoreflect.Repeated && IDField(field) != nil {
			return field
		}
	}
	return nil
}

// IDField is the field that holds the id of a resource, or nil: of `charge` it is `charge_id`, of `api_key` it may
// be `key_id`.
func IDField(resource protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	name := string(resource.Name())
	for _, prefix := range []string{name, name[strings.LastIndex(name, "_")+1:]} {
		field := resource.Message().Fields().ByName(protoreflect.Name(prefix + "_id"))
		if field != nil && field.Kind() == protoreflect.StringKind {
			return field
		}
	}
	return nil
}

// RawField is the field of a request that takes the HTTP body as it came, byte for byte, or nil.
func RawField(request protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	field := request.Fields().ByName("raw_request")
	if field == nil || field.Kind() != protoreflect.BytesKind || field.IsList() {
		return nil
	}
	return field
}

// What a request and its answer call the choice between messages and CloudEvents.
const (
	BatchMediaType       = "application/cloudevents-batch+json"
	RenderingField       = "rendering"
	CloudEventsRendering = "RENDERING_CLOUD_EVENTS"
)

// BatchField is the field of an RPC's answer that holds a JSON batch of CloudEvents when its request asks for that
// rendering, or nil.
func BatchField(method protoreflect.MethodDescriptor) protoreflect.FieldDescriptor {
	choice := method.Input().Fields().ByName(RenderingField)
	if choice == nil || choice.Enum() == nil || choice.Enum().Values().ByName(CloudEventsRendering) == nil {
		return nil
	}
	return BatchFieldOf(method.Output())
}

// BatchFieldOf is the field of an answer that may hold a JSON batch of CloudEvents, or nil.
func BatchFieldOf(response protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	fields := response.Fields()
	field := fields.ByName("cloud_events")
	cursor := fields.ByName("next_cursor")
	if field == nil || field.Kind() != protoreflect.BytesKind || field.IsList() || cursor == nil {
		return nil
	}
	return field
}

// HookKeyParameter is the query parameter that holds the key of a caller who sends none in a header.
const HookKeyParameter = "key"

// HookHeaders is the field of a request that takes every header of its call beside the raw body, or nil. It is what a third
// party sends in its own form, to an address that we gave it: its key stands in the address.
func HookHeaders(request protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	field := request.Fields().ByName("headers")
	if RawField(request) == nil || field == nil || !field.IsMap() || request.Fields().ByName("content_type") != nil {
		return nil
	}
	return field
}

// HeaderFields are the fields of a request with a raw body that take its Content-Type and its `ce-` headers, or nil.
func HeaderFields(request protoreflect.MessageDescriptor) (contentType, attributes protoreflect.FieldDescriptor) {
	contentType = request.Fields().ByName("content_type")
	attributes = request.Fields().ByName("headers")
	if RawField(request) == nil || contentType == nil || attributes == nil || !attributes.IsMap() {
		return nil, nil
	}
	return contentType, attributes
}

// EventStreamType is the media type of Server-Sent Events.
const EventStreamType = "text/event-stream"

// StartParameters say where a stream begins; the id of the last event that a client got says it better.
var StartParameters = []string{"after", "from_start", "fromStart"}

// IsSingle tells whether a call that only reads is about one thing, and not a page of a list or a stream.
func IsSingle(method protoreflect.MethodDescriptor) bool {
	fields := method.Input().Fields()
	return !method.IsStreamingServer() && fields.ByName("page_size") == nil && PagingOf(method) == nil
}

// CursorField is the field of a stream's message that says where a later call goes on behind it, or nil.
func CursorField(message protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	field := message.Fields().ByName("cursor")
	if field == nil || field.Kind() != protoreflect.StringKind || field.IsList() {
		return nil
	}
	return field
}

// Paging is how a list goes on.
type Paging struct {
	// Token is the field of the request that asks for a later page, Next that of the answer which names it.
	Token, Next protoreflect.FieldDescriptor
	// Endless lists name a next page even behind the last one: it comes later.
	Endless bool
}

// PagingOf is how the list of an RPC goes on, or nil when it is none.
func PagingOf(method protoreflect.MethodDescriptor) *Paging {
	request, response := method.Input().Fields(), method.Output().Fields()
	if token, next := request.ByName("page_token"), response.ByName("next_page_token"); token != nil && next != nil {
		return &Paging{Token: token, Next: next}
	}
	if after, next := request.ByName("after"), response.ByName("next_cursor"); after != nil && next != nil {
		return &Paging{Token: after, Next: next, Endless: true}
	}
	return nil
}
