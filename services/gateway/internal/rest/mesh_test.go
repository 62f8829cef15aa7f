package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// answer is what the mesh of a test does with one call.
type answer func(request proto.Message, stream grpc.ServerStream) (proto.Message, error)

// call is what the mesh of a test saw.
type call struct {
	method   string
	request  proto.Message
	metadata metadata.MD
	deadline time.Duration
}

// mesh is a gRPC server that serves every RPC of the schemas: it notes each call and answers with an empty
// message where the test says nothing else.
type mesh struct {
	t       *testing.T
	address string
	server  *grpc.Server
	health  *health.Server
	answers map[string]answer

	mutex sync.Mutex
	calls []call
}

func newMesh(t *testing.T, answers map[string]answer) *mesh {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newMeshOn(t, listener, answers)
}

func newMeshOn(t *testing.T, listener net.Listener, answers map[string]answer) *mesh {
	m := &mesh{t: t, address: listener.Addr().String(), health: health.NewServer(), answers: answers}
	m.server = grpc.NewServer(grpc.UnknownServiceHandler(m.serve), grpc.MaxRecvMsgSize(1<<20))
	healthpb.RegisterHealthServer(m.server, m.health)
	go func() { _ = m.server.Serve(listener) }() // ends with Stop
	t.Cleanup(m.server.Stop)
	return m
}

func (m *mesh) serve(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(path[1:], "/", ".")))
	if err != nil {
		return status.Error(codes.Unimplemented, path)
	}
	method := found.(protoreflect.MethodDescriptor)
	request := newMessage(m.t, method.Input())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	m.note(path, request, stream)
	respond := m.answers[path]
	if respond == nil {
		return stream.SendMsg(newMessage(m.t, method.Output()))
	}
	response, err := respond(request, stream)
	if err != nil || response == nil {
		return err
	}
	return stream.SendMsg(response)
}

func (m *mesh) note(path string, request proto.Message, stream grpc.ServerStream) {
	seen := call{method: path, request: request}
	seen.metadata, _ = metadata.FromIncomingContext(stream.Context())
	if at, set := stream.Context().Deadline(); set {
		seen.deadline = time.Until(at)
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.calls = append(m.calls, seen)
}

// only is the one call that the mesh saw.
func (m *mesh) only() call {
	m.t.Helper()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(m.calls) != 1 {
		m.t.Fatalf("the mesh saw %d calls, not one: %v", len(m.calls), m.calls)
	}
	return m.calls[0]
}

// seen is the call of an index.
func (m *mesh) seen(index int) call {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.calls[index]
}

func (m *mesh) count() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.calls)
}

func newMessage(t *testing.T, descriptor protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		t.Errorf("%s is not linked: %v", descriptor.FullName(), err)
		return nil
	}
	return kind.New().Interface()
}

// defaults are the limits of a test that is not about limits.
var defaults = Limits{BodyBytesMax: 256 << 10, InFlightMax: 8, StreamsMax: 8, Deadline: 5 * time.Second}

// client speaks HTTP to a facade in front of a mesh.
type client struct {
	t   *testing.T
	url string
}

func newClient(t *testing.T, address string, limits Limits) client {
	t.Helper()
	connection, err := Dial(t.Context(), address, limits.Deadline)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := NewHandler(context.Background(), connection, limits)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		_ = connection.Close()
	})
	return client{t, server.URL}
}

// reply is an HTTP answer, read whole.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (c client) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	request, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{c.t, response.StatusCode, response.Header, content}
}

// want fails the test unless the answer has the status, and gives its JSON.
func (r reply) want(status int) map[string]any {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, not %d: %s", r.status, status, r.body)
	}
	var content map[string]any
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		r.t.Fatalf("no JSON object: %v: %s", err, r.body)
	}
	return content
}

// wantReason fails the test unless the answer is a google.rpc.Status with this reason; it gives the detail of
// each type by the last part of its name.
func (r reply) wantReason(status int, reason string) map[string]map[string]any {
	r.t.Helper()
	content := r.want(status)
	if _, ok := content["code"].(json.Number); !ok || content["message"] == "" {
		r.t.Fatalf("no google.rpc.Status: %s", r.body)
	}
	details := map[string]map[string]any{}
	for _, detail := range content["details"].([]any) {
		detail := detail.(map[string]any)
		name := detail["@type"].(string)
		details[name[strings.LastIndex(name, ".")+1:]] = detail
	}
	info := details["ErrorInfo"]
	if info == nil || info["reason"] != reason || info["domain"] != "tollmesh.dev" {
		r.t.Fatalf("not reason %s: %s", reason, r.body)
	}
	return details
}
