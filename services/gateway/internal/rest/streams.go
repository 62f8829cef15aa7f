package rest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

// A stream is answered as JSON lines, or as Server-Sent Events to who asks for them. Each of these carries the cursor of
// its message as id, which clients send back as Last-Event-ID when they connect again.

const (
	lastEventIDHeader = "Last-Event-Id"
	// eventStreamCodecName stands for eventStreamCodec where the runtime looks for a media type.
	eventStreamCodecName = "tollmesh/event-stream"
	// reconnectAfter is what clients are told to wait before they connect again.
	reconnectAfter = 2 * time.Second
)

// keepAliveEvery is how often a silent event stream says that it lives: proxies end what is silent for a minute. Tests
// shorten it.
var keepAliveEvery = 15 * time.Second

// streamRoutes are the routes that answer with a stream, as an HTTP method and the paths of a template.
type streamRoutes []streamRoute

type streamRoute struct {
	verb  string
	paths *regexp.Regexp
}

func newStreamRoutes() streamRoutes {
	var routes streamRoutes
	eachRule(func(method protoreflect.MethodDescriptor, rule *annotations.HttpRule) {
		if verb, template := methodAndPath(rule); method.IsStreamingServer() {
			routes = append(routes, streamRoute{verb, pathsOf(template)})
		}
	})
	return routes
}

func (s streamRoutes) has(verb, path string) bool {
	return slices.ContainsFunc(s, func(route streamRoute) bool {
		return route.verb == verb && route.paths.MatchString(path)
	})
}

// chooseEvents prepares a call for Server-Sent Events when its Accept header prefers them, and tells whether it does.
func chooseEvents(r *http.Request, accepted []string) (bool, error) {
	wanted := quality(accepted, contract.EventStreamType)
	if wanted == 0 || wanted < quality(accepted, jsonType) {
		return false, nil
	}
	r.Header.Set("Accept", eventStreamCodecName)
	last, err := single(r.Header, lastEventIDHeader)
	if err != nil || last == "" {
		return true, err
	}
	if !utf8.ValidString(last) {
		return true, invalid(lastEventIDHeader, "it is not UTF-8")
	}
	// A client that connects again calls the address that it began with: what it got last is where it is now.
	query := r.URL.Query()
	for _, name := range contract.StartParameters {
		query.Del(name)
	}
	query.Set("after", last)
	changed := *r.URL
	changed.RawQuery = query.Encode()
	r.URL = &changed
	return true, nil
}

// stream is the answer of a stream while it is written. It begins before the first message, when the mesh says that it
// has begun.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	slack   time.Duration
	events  bool
	// only the head is wanted; end ends the call then.
	headOnly bool
	end      context.CancelFunc

	mutex    sync.Mutex // of what follows, and of the connection
	begun    bool
	lastSent time.Time
	done     chan struct{}
}

type streamKey struct{}

// newStream wraps an answer; the caller closes it.
func newStream(w http.ResponseWriter, slack time.Duration, events, headOnly bool, end context.CancelFunc) *stream {
	return &stream{ResponseWriter: w, control: http.NewResponseController(w), slack: slack, events: events,
		headOnly: headOnly, end: end, done: make(chan struct{})}
}

// Unwrap is for http.ResponseController.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// beginStream begins an answer when the mesh began its own.
func beginStream(ctx context.Context, _ http.ResponseWriter, message proto.Message) error {
	s, ok := ctx.Value(streamKey{}).(*stream)
	if ok && message == nil {
		if told, known := runtime.ServerMetadataFromContext(ctx); known && len(told.HeaderMD) > 0 {
			s.begin()
		}
	}
	return nil
}

func (s *stream) begin() {
	header := s.Header()
	header.Set("Content-Type", jsonType)
	if s.events {
		header.Set("Content-Type", contract.EventStreamType)
		header.Set("X-Accel-Buffering", "no") // nginx would keep events until it has 4 KiB of them
	}
	header.Set("Cache-Control", "no-store")
	header.Add("Vary", "Accept")
	s.WriteHeader(http.StatusOK)
	if s.headOnly {
		s.end()
		return
	}
	if s.events {
		_, _ = fmt.Fprintf(s, "retry: %d\n\n", reconnectAfter.Milliseconds())
		go s.keepAlive(keepAliveEvery)
	}
	_ = s.FlushError() // the next write finds out
}

// WriteHeader sends the head; after the first it does nothing.
func (s *stream) WriteHeader(status int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.begun {
		s.begun = true
		s.ResponseWriter.WriteHeader(status)
	}
}

// Write sends a whole message.
func (s *stream) Write(text []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.lastSent = time.Now()
	return s.ResponseWriter.Write(text)
}

// FlushError sends what was written, for http.ResponseController.
func (s *stream) FlushError() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.control.Flush()
}

// keepAlive sends comments while there is nothing else to send.
func (s *stream) keepAlive(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-ticker.C:
			if !s.sayAlive(every) {
				s.end()
				return
			}
		}
	}
}

// sayAlive is false when the client has gone.
func (s *stream) sayAlive(every time.Duration) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	select {
	case <-s.done: // the connection is another call's now
		return true
	default:
	}
	if time.Since(s.lastSent) < every/2 {
		return true
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(s.slack))
	_, err := s.ResponseWriter.Write([]byte(": alive\n\n"))
	return err == nil && s.control.Flush() == nil
}

// close ends what goes on beside the handler.
func (s *stream) close() {
	s.end()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	close(s.done)
}

// eventStreamCodec writes the messages of a stream as Server-Sent Events, and everything else as JSON.
type eventStreamCodec struct{ *codec }

// StreamContentType is the media type of a stream.
func (eventStreamCodec) StreamContentType(any) string { return contract.EventStreamType }

// Delimiter is empty: an event ends itself.
func (eventStreamCodec) Delimiter() []byte { return nil }

// Marshal writes one event: its message, or the error that ends the stream.
func (c eventStreamCodec) Marshal(answer any) ([]byte, error) {
	switch chunk := answer.(type) {
	case map[string]any:
		return c.event("", chunk["result"])
	case map[string]proto.Message:
		return c.event("problem", chunk["error"])
	}
	return c.codec.Marshal(answer)
}

// event is one event; those that are no error have no name, so that a client's `onmessage` gets them all.
func (c eventStreamCodec) event(name string, content any) ([]byte, error) {
	text, err := c.codec.Marshal(content)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if message, ok := content.(proto.Message); ok {
		if cursor := contract.CursorField(message.ProtoReflect().Descriptor()); cursor != nil {
			fmt.Fprintf(&out, "id: %s\n", message.ProtoReflect().Get(cursor).String())
		}
	}
	if name != "" {
		fmt.Fprintf(&out, "event: %s\n", name)
	}
	for _, line := range bytes.Split(text, []byte("\n")) {
		out.WriteString("data: ")
		out.Write(line)
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

var (
	_ runtime.StreamContentType = eventStreamCodec{}
	_ runtime.Delimited         = eventStreamCodec{}
)

// linkNextPage says in a header where a list goes on: partners' clients follow it without knowing how pages are named.
func linkNextPage(ctx context.Context, w http.ResponseWriter, response proto.Message) error {
	body, ok := ctx.Value(bodyKey{}).(*requestBody)
	rpc := traitsOf(ctx)
	if !ok || response == nil || rpc == nil || rpc.paging == nil || rpc.method.IsStreamingServer() {
		return nil
	}
	paging := rpc.paging
	next := response.ProtoReflect().Get(paging.Next).String()
	if body.batch && batchOf(response) != nil {
		w.Header().Set(nextCursorHeader, next)
	}
	if body.pages {
		w.Header().Add("Vary", "Accept")
	}
	if next == "" || paging.Endless && !body.batch && isEmpty(response.ProtoReflect()) {
		return nil // who follows links to their end finds one
	}
	query := body.self.Query()
	for name := range query {
		if _, field := fieldAt(rpc.method.Input(), name); field == paging.Token {
			query.Del(name)
		}
	}
	query.Set(string(paging.Token.Name()), next)
	address := url.URL{Path: body.self.Path, RawPath: body.self.RawPath, RawQuery: query.Encode()}
	w.Header().Add("Link", fmt.Sprintf("<%s>; rel=\"next\"", strings.NewReplacer("<", "%3C", ">", "%3E").Replace(address.String())))
	return nil
}

// isEmpty tells whether none of an answer's lists holds anything.
func isEmpty(response protoreflect.Message) bool {
	empty := true
	response.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		empty = !field.IsList() // of fields that are set
		return empty
	})
	return empty
}

// withHead adds HEAD to the methods of a path wherever GET is.
func withHead(methods []string) []string {
	if slices.Contains(methods, http.MethodGet) && !slices.Contains(methods, http.MethodHead) {
		methods = append(methods, http.MethodHead)
		slices.Sort(methods)
	}
	return methods
}
