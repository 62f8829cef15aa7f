package rest

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

// traits are what an answer takes from the schema of its RPC.
type traits struct {
	method protoreflect.MethodDescriptor
	status int
	single bool
	paging *contract.Paging
}

// traitsByPath keeps what was read from the schemas, for it is the same with each call.
var traitsByPath sync.Map

// traitsOf are those of the RPC that a call was routed to; nil where there is none.
func traitsOf(ctx context.Context) *traits {
	path, _ := runtime.RPCMethod(ctx)
	if known, ok := traitsByPath.Load(path); ok {
		return known.(*traits)
	}
	method := methodAt(path)
	if method == nil {
		return nil
	}
	read := &traits{method, contract.SuccessStatus(method), contract.IsSingle(method), contract.PagingOf(method)}
	traitsByPath.Store(path, read)
	return read
}

// setStatus answers with the status of the RPC's contract, and names where a created resource is found.
func setStatus(ctx context.Context, w http.ResponseWriter, response proto.Message) error {
	rpc := traitsOf(ctx)
	if rpc == nil || response == nil {
		return nil
	}
	if rpc.status == http.StatusCreated {
		setLocation(ctx, w.Header(), response.ProtoReflect())
	}
	if rpc.status != http.StatusOK {
		w.WriteHeader(rpc.status)
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
