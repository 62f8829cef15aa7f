// Package rest translates between HTTP with JSON and the gRPC services of the mesh.
//
// What the schemas say is followed here, not said again: routes come from the google.api.http
// annotations, the status and Location of a created resource from the shape of its RPC, a body that travels
// untouched from the request's field raw_request.
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"tollmesh.dev/gateway/internal/docs"
	"tollmesh.dev/gen/go/openapi"
)

const (
	// BodyBytesMax is the default limit of a request body.
	BodyBytesMax = 16 << 20
	// InFlightMax is the default limit of calls at a time.
	InFlightMax = 256
	// answerBytesMax bounds what the mesh may answer.
	answerBytesMax = 64 << 20
	// streamWindowBytes and connectionWindowBytes are what the mesh may send ahead of its reader. Windows that are not
	// fixed are measured, which costs the mesh and this process a ping with each call.
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 8 << 20
	// bodyTimeout is how long a client may take to send its body.
	bodyTimeout = 30 * time.Second
	// writeSlack is what a client gets on top of the call's deadline to read the answer.
	writeSlack = 30 * time.Second
	// descriptionPath is where the OpenAPI description is.
	descriptionPath = "/openapi.json"
	// reconnectMax keeps the pause short after the mesh was restarted.
	reconnectMax = 2 * time.Second
)

// Limits bound what one client can make the facade do.
type Limits struct {
	BodyBytesMax int64
	InFlightMax  int
	// StreamsMax bounds those calls that are answered with a stream; they are not among the others.
	StreamsMax int
	// Deadline of calls that bring none.
	Deadline time.Duration
	// Origins are those whose pages may call from a browser, such as https://console.example; `*` for any. None by default.
	Origins []string
}

// Dial prepares the connection to the mesh; it is made with the first call. Unary calls without a
// deadline get one: the generated handlers would wait for ever. Streams end with the lifetime: a tail would hold up
// every shutdown to its limit.
func Dial(lifetime context.Context, address string, deadline time.Duration) (*grpc.ClientConn, error) {
	reconnect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 5 * time.Second}
	reconnect.Backoff.MaxDelay = reconnectMax
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(reconnect),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connectionWindowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)),
		grpc.WithChainUnaryInterceptor(withDeadline(deadline), withAnsweredID, withCallers),
		grpc.WithStreamInterceptor(within(lifetime)),
	)
}

func withDeadline(deadline time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if _, set := ctx.Deadline(); !set {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, deadline)
			defer cancel()
		}
		return invoke(ctx, method, request, reply, connection, options...)
	}
}

func within(lifetime context.Context) grpc.StreamClientInterceptor {
	return func(ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
		open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, cancel := context.WithCancel(ctx)
		forget := context.AfterFunc(lifetime, cancel)
		context.AfterFunc(ctx, func() { forget() }) // also when its reader just goes away
		stream, err := open(ctx, description, connection, method, options...)
		if err != nil {
			cancel()
			return nil, err
		}
		return &mortalStream{ClientStream: stream, lifetime: lifetime, release: cancel}, nil
	}
}

// mortalStream is a stream that ends with the facade, and says so.
type mortalStream struct {
	grpc.ClientStream
	lifetime context.Context
	release  context.CancelFunc
	// named is set once the answer names the call.
	named bool
	// ended is how a stream without any message ended.
	ended error
}

// Header waits for the stream to begin. One that is refused instead says so here, where it is answered as any other
// refusal.
func (s *mortalStream) Header() (metadata.MD, error) {
	header, err := s.ClientStream.Header()
	if header != nil || err != nil {
		noteCaller(s.Context(), err)
		setAnsweredID(s.Context(), header)
		return header, err
	}
	if s.ended = s.RecvMsg(&emptypb.Empty{}); !errors.Is(s.ended, io.EOF) {
		noteCaller(s.Context(), s.ended)
		return nil, s.ended
	}
	return nil, nil
}

// RecvMsg waits for the next message.
func (s *mortalStream) RecvMsg(message any) error {
	if s.ended != nil {
		return s.ended
	}
	err := s.ClientStream.RecvMsg(message)
	if !s.named {
		header, _ := s.ClientStream.Header() // its error is that of the message
		setAnsweredID(s.Context(), header)
		if err != nil {
			setAnsweredID(s.Context(), s.Trailer())
		}
		s.named = true
	}
	if err != nil {
		s.release()
	}
	if err != nil && !errors.Is(err, io.EOF) && s.lifetime.Err() != nil {
		return status.Error(codes.Unavailable, "the facade is shutting down")
	}
	return err
}

// NewHandler is the whole facade: every annotated RPC, /healthz, /readyz, /openapi.json and /docs. It is not ready any more once
// ctx ends.
func NewHandler(ctx context.Context, connection *grpc.ClientConn, limits Limits) (http.Handler, error) {
	plain := newCodec()
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, plain),
		runtime.WithMarshalerOption(batchCodecName, batchCodec{plain}),
		runtime.WithMarshalerOption(eventStreamCodecName, eventStreamCodec{plain}),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(outgoingHeader),
		runtime.WithOutgoingTrailerMatcher(outgoingHeader),
		runtime.WithForwardResponseOption(extendWriteDeadline(limits.Deadline+writeSlack)),
		runtime.WithForwardResponseOption(beginStream),
		runtime.WithForwardResponseOption(tagSingle),
		runtime.WithForwardResponseOption(setStatus),
		runtime.WithForwardResponseOption(linkNextPage),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.WithStreamErrorHandler(streamError),
		runtime.SetQueryParameterParser(strictQuery{}),
		runtime.WithMiddlewares(refuseKeys(), refuseQueries(), refuseBodies(), refuseMediaTypes(), notePath),
		// A form is no request of this API, so POST never stands in for GET.
		runtime.WithDisablePathLengthFallback(),
	)
	for _, register := range registrations {
		if err := register(ctx, mux, connection); err != nil {
			return nil, fmt.Errorf("register routes: %w", err)
		}
	}
	fixed := map[string]runtime.HandlerFunc{
		descriptionPath: serveDescription,
		// Served before they are routed; known here, so that another method is answered with 405.
		livePath:  nil,
		readyPath: nil,
	}
	for path, file := range docs.Files {
		fixed[path] = serveDocs(file)
	}
	for path, serve := range fixed {
		if err := mux.HandlePath(http.MethodGet, path, serve); err != nil {
			return nil, err
		}
	}
	return withCORS(&facade{
		mux: mux, limits: limits, rawRoutes: rawRoutes(), batchPaths: batchPaths(), streamRoutes: newStreamRoutes(),
		budgets: newBudgets(limits),
		probes:  &probes{health: healthpb.NewHealthClient(connection), lifetime: ctx},
	}, limits.Origins)
}

func serveDescription(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	serveFixed(w, r, jsonType, openapi.Description)
}

// serveDocs answers with a file of the page at /docs.
func serveDocs(file docs.File) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		w.Header().Set("Content-Security-Policy", docs.Policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		serveFixed(w, r, file.ContentType, file.Content)
	}
}

// serveFixed answers with what is the same for everybody until the next release.
func serveFixed(w http.ResponseWriter, r *http.Request, contentType string, content []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache")
	if body, ok := r.Context().Value(bodyKey{}).(*requestBody); ok && body.answer != nil {
		body.answer.tagged = true
	}
	_, _ = w.Write(content) // a client that has gone needs no answer
}

// facade stands before the generated routes: limits, request ids, and the body read whole.
type facade struct {
	mux          *runtime.ServeMux
	limits       Limits
	rawRoutes    []rawRoute
	batchPaths   map[string]bool
	streamRoutes streamRoutes
	budgets      *budgets
	probes       *probes
}

func (f *facade) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prepareHeaders(w, r)
	defer f.recovered(w, r)
	if f.probes.serve(w, r, func(err error) { f.answer(w, r, err) }) {
		return
	}
	if showsMeshToken(r.Header) {
		f.refuse(w, r, meshTokenOutside())
		return
	}
	if err := admit(r); err != nil {
		f.refuse(w, r, err)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(bodyTimeout + f.limits.Deadline + writeSlack))
	verb := r.Method
	if verb == http.MethodHead { // the same, and the server leaves the body out
		verb = http.MethodGet
	}
	raw := f.rawRoute(verb, r.URL.Path)
	bytesMax := f.limits.BodyBytesMax
	if raw != nil {
		bytesMax = min(raw.bytesMax, bytesMax)
	}
	if raw != nil && raw.hook {
		if err := takeHookKey(r); err != nil {
			f.refuse(w, r, err)
			return
		}
	}
	shown := shownBy(r.Header)
	by := f.budgets.callerOf(shown)
	held := &lease{budgets: f.budgets, by: by}
	defer held.end()
	text, err := readBody(w, r, control, bytesMax, held)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	places, limit := f.budgets.calls, f.limits.InFlightMax
	if f.streamRoutes.has(verb, r.URL.Path) {
		// Each key counts by itself: one that is no good is refused at once, and a stream lasts beyond its acquaintance.
		places, limit, by = f.budgets.streams, f.limits.StreamsMax, shown
	}
	if !places.take(by, 1) {
		f.answer(w, r, overloaded(limit))
		return
	}
	defer places.giveBack(by, 1)
	body := &requestBody{Reader: bytes.NewReader(text), raw: raw != nil, header: r.Header, self: *r.URL, verb: r.Method}
	accepted := r.Header.Values("Accept")
	ctx := context.WithValue(context.WithValue(r.Context(), bodyKey{}, body), answerKey{}, w.Header())
	ctx = context.WithValue(ctx, shownKey{}, shownTo{&f.budgets.known, shown})
	f.route(w, r.WithContext(ctx), verb, body, accepted)
}

// route hands a call to its route, as a copy: the server goes on to know the method that was asked.
func (f *facade) route(w http.ResponseWriter, r *http.Request, verb string, body *requestBody, accepted []string) {
	route := verb + " " + r.URL.Path
	head := r.Method == http.MethodHead
	r.Method = verb
	r.Body = body
	r.Header.Del("Accept") // the runtime would compare the whole header with one media type
	r.Header.Del("Te")     // trailers say nothing that the answer does not say
	if f.streamRoutes.has(verb, r.URL.Path) {
		events, err := chooseEvents(r, accepted)
		if err != nil {
			f.answer(w, r, err)
			return
		}
		ctx, end := context.WithCancel(r.Context())
		answer := newStream(w, f.limits.Deadline+writeSlack, events, head, end)
		defer answer.close()
		r = r.WithContext(context.WithValue(ctx, streamKey{}, answer))
		r.Form, r.PostForm = r.URL.Query(), url.Values{}
		f.mux.ServeHTTP(answer, r)
		return
	}
	if body.pages = f.batchPaths[route]; body.pages {
		chooseBatch(r, body, accepted)
	}
	body.answer = &wholeAnswer{ResponseWriter: w, request: r}
	// The generated code would take a form in the body for a part of the query.
	r.Form, r.PostForm = r.URL.Query(), url.Values{}
	f.mux.ServeHTTP(body.answer, r)
	body.answer.send()
}

// recovered answers a call whose handler panicked as any other fault of ours.
func (f *facade) recovered(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause) // how a handler breaks a connection off
	}
	log.Printf("request %s: panic: %v\n%s", w.Header().Get(requestIDHeader), cause, debug.Stack())
	f.refuse(w, r, ourFault(w.Header().Get(requestIDHeader)).Err())
}

// readBody takes the whole body within its limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request, control *http.ResponseController, bytesMax int64, held *lease) ([]byte, error) {
	if r.ContentLength > bytesMax {
		return nil, bodyTooLarge(bytesMax)
	}
	var text []byte
	if r.Body != http.NoBody { // deadlines are timers, which cost something even where nothing is read
		var err error
		if text, err = takeBody(w, r, control, bytesMax, held); err != nil {
			return nil, bodyFault(err)
		}
	}
	if len(codingsOf(r.Header)) > 0 {
		return decompressed(text, bytesMax, held)
	}
	return text, nil
}

// takeBody reads a body as it comes.
func takeBody(w http.ResponseWriter, r *http.Request, control *http.ResponseController, bytesMax int64, held *lease) ([]byte, error) {
	bodies := held.budgets.bodies
	if held.by == stranger {
		_ = control.SetReadDeadline(time.Now().Add(strangerBodyTimeout))
		slow := held.budgets.slow.enter(control)
		defer func() {
			held.budgets.slow.leave(slow)
			_ = control.SetReadDeadline(time.Time{})
		}()
	} else {
		if !bodies.take(held.by, 1) {
			return nil, overloaded(callerBodiesMax)
		}
		defer bodies.giveBack(held.by, 1)
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
		defer func() { _ = control.SetReadDeadline(time.Time{}) }() // a tail stays open for as long as its reader does
	}
	return io.ReadAll(held.counted(http.MaxBytesReader(w, r.Body, bytesMax)))
}

func (f *facade) refuse(w http.ResponseWriter, r *http.Request, err error) {
	// Unread bytes of the body would be taken for the next request.
	w.Header().Set("Connection", "close")
	f.answer(w, r, err)
}

func (f *facade) answer(w http.ResponseWriter, r *http.Request, err error) {
	writeError(r.Context(), f.mux, nil, w, r, err)
}

// requestBody is a body that was read whole. The codec gets it from the generated handlers, and leaves
// in it what those would flatten to text.
type requestBody struct {
	*bytes.Reader
	// raw is set on routes whose body travels untouched.
	raw bool
	// header came with the body.
	header http.Header
	// path is what the path says of the request's fields.
	path map[string]string
	// self is the address that was called, verb the HTTP method.
	self url.URL
	verb string
	// pages may be a bare batch of CloudEvents; batch when they are.
	pages, batch bool
	// answer is held back until it is whole; nil for streams.
	answer *wholeAnswer
	// fault is why the body does not read as its message.
	fault error
}

// reads tells whether the call asks for a representation.
func (b *requestBody) reads() bool { return b.verb == http.MethodGet || b.verb == http.MethodHead }

// Close does nothing: the bytes are in memory.
func (*requestBody) Close() error { return nil }

type bodyKey struct{}

// extendWriteDeadline gives every message of a stream the time that a whole answer has.
func extendWriteDeadline(slack time.Duration) func(context.Context, http.ResponseWriter, proto.Message) error {
	return func(_ context.Context, w http.ResponseWriter, _ proto.Message) error {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(slack))
		return nil
	}
}
