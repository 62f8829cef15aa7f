package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

// setStatus answers with the status of the RPC's contract, and names where a created resource is found.
func setStatus(ctx context.Context, w http.ResponseWriter, response proto.Message) error {
	method := methodOf(ctx)
	if method == nil || response == nil {
		return nil
	}
	code := contract.SuccessStatus(method)
	if code == http.StatusCreated {
		setLocation(ctx, w.Header(), response.ProtoReflect())
	}
	if code != http.StatusOK {
		w.WriteHeader(code)
	}
	return nil
}

// setLocation names the created resource, unless the service did.
func setLocation(ctx context.Context, header http.Header, response protoreflect.Message) {
	pattern, known := runtime.HTTPPathPattern(ctx)
	if !known || header.Get("Location") != "" {
		return
	}
	if id := createdID(response); id != "" {
		header.Set("Location", pattern+"/"+url.PathEscape(id))
	}
}

// createdID is the id of the single resource in a response `{charge: {charge_id: …}}`.
func createdID(response protoreflect.Message) string {
	resource := contract.ResourceField(response.Descriptor())
	if resource == nil {
		return ""
	}
	return response.Get(resource).Message().Get(contract.IDField(resource)).String()
}
