package rest

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What the facade takes in at a time. A body is read before its call has a slot, so who sends slowly keeps nobody's call
// from being made. Who is who says the Authorization header; whether it is any good, the mesh: a caller whose last call
// it has let in is known, all others are strangers, and have a small part for all of them together.

const (
	// StreamsMax is the default limit of streams at a time. They hold no slot of other calls.
	StreamsMax = 128
	// bodiesMax bounds the bodies that are read at a time, callerBodiesMax those of one caller.
	bodiesMax       = 256
	callerBodiesMax = 64
	// strangerBodiesMax bounds those of all strangers: the one that has been read longest makes room for the next, so that
	// a body which comes at once is always read.
	strangerBodiesMax = 128
	// bodyBytesHeldMax bounds the bytes of bodies that are read or worked on, by all callers, by one, and by all strangers.
	bodyBytesHeldMax     = 192 << 20
	callerBytesHeldMax   = 96 << 20
	strangerBytesHeldMax = 64 << 20
	// strangerBodyTimeout is how long a stranger may take to send its body.
	strangerBodyTimeout = 10 * time.Second
	// knownMax bounds the callers that are remembered, twice over.
	knownMax = 4096
)

// caller is who shows one Authorization header.
type caller [sha256.Size]byte

// stranger stands for all callers that are not known.
var stranger caller

// share is so much of something, of which one caller may have a part, and strangers another.
type share struct {
	total, each, strangers int64

	mutex sync.Mutex
	taken int64
	held  map[caller]int64
}

func newShare(total, each, strangers int64) *share {
	return &share{total: total, each: each, strangers: strangers, held: map[caller]int64{}}
}

// take is false where there is no more, or the caller has its part.
func (s *share) take(c caller, amount int64) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	most := s.each
	if c == stranger {
		most = s.strangers
	}
	if s.taken+amount > s.total || s.held[c]+amount > most {
		return false
	}
	s.taken += amount
	s.held[c] += amount
	return true
}

func (s *share) giveBack(c caller, amount int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.taken -= amount
	if s.held[c] -= amount; s.held[c] <= 0 {
		delete(s.held, c)
	}
}

// budgets are those of one facade.
type budgets struct {
	calls, streams, bodies, bytes *share
	slow                          slowBodies
	known                         acquaintances
}

func newBudgets(limits Limits) *budgets {
	streams := int64(limits.StreamsMax)
	calls := int64(limits.InFlightMax)
	return &budgets{
		// Three quarters to one, half to strangers: what is left is for others.
		calls:   newShare(calls, calls-calls/4, calls-calls/2),
		streams: newShare(streams, streams-streams/2, streams-streams/2),
		bodies:  newShare(bodiesMax, callerBodiesMax, bodiesMax),
		bytes:   newShare(bodyBytesHeldMax, callerBytesHeldMax, strangerBytesHeldMax),
	}
}

// callerOf is who makes a call: itself where it is known, else a stranger.
func (b *budgets) callerOf(shown caller) caller {
	if b.known.has(shown) {
		return shown
	}
	return stranger
}

// shownBy is what the header of a call shows.
func shownBy(header http.Header) caller {
	shown := header.Get("Authorization")
	if shown == "" {
		return stranger
	}
	return sha256.Sum256([]byte(shown))
}

// acquaintances are callers whose calls the mesh has let in, in two generations: the older goes when the newer is full.
type acquaintances struct {
	mutex        sync.Mutex
	newer, older map[caller]struct{}
}

func (a *acquaintances) has(c caller) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if _, newer := a.newer[c]; newer {
		return true
	}
	_, older := a.older[c]
	return older
}

func (a *acquaintances) meet(c caller) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if _, known := a.newer[c]; known || c == stranger {
		return
	}
	if len(a.newer) >= knownMax {
		a.older, a.newer = a.newer, nil
	}
	if a.newer == nil {
		a.newer = map[caller]struct{}{}
	}
	a.newer[c] = struct{}{}
}

func (a *acquaintances) forget(c caller) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.newer, c)
	delete(a.older, c)
}

// shownKey finds what a call shows, and the acquaintances, in its context.
type shownKey struct{}

type shownTo struct {
	known *acquaintances
	by    caller
}

// noteCaller remembers what an answer of the mesh says of the key of its call: some are given before it is looked at, and
// say nothing.
func noteCaller(ctx context.Context, err error) {
	shown, ok := ctx.Value(shownKey{}).(shownTo)
	if !ok {
		return
	}
	switch status.Code(err) {
	case codes.Unauthenticated:
		shown.known.forget(shown.by)
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.AlreadyExists,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		shown.known.meet(shown.by)
	}
}

func withCallers(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, connection, options...)
	noteCaller(ctx, err)
	return err
}

// slowBodies are the bodies of strangers that are being read, the oldest first.
type slowBodies struct {
	mutex sync.Mutex
	queue []*slowBody
}

type slowBody struct{ control *http.ResponseController }

// enter lets a body be read, in place of the one that has been read longest where there are too many.
func (s *slowBodies) enter(control *http.ResponseController) *slowBody {
	body := &slowBody{control}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.queue = append(s.queue, body); len(s.queue) > strangerBodiesMax {
		_ = s.queue[0].control.SetReadDeadline(time.Now())
		s.queue = s.queue[1:]
	}
	return body
}

// leave is called when a body is read, before its connection has another deadline.
func (s *slowBodies) leave(body *slowBody) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i, each := range s.queue {
		if each == body {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
}

// lease is what one call holds of the bytes.
type lease struct {
	budgets *budgets
	by      caller
	bytes   int64
}

// counted reads under the budget of bytes.
func (l *lease) counted(reader io.Reader) io.Reader { return countedReader{reader, l} }

type countedReader struct {
	reader io.Reader
	lease  *lease
}

// Read fails with what answers the call when there are too many bytes.
func (r countedReader) Read(data []byte) (int, error) {
	n, err := r.reader.Read(data)
	if n > 0 && !r.lease.budgets.bytes.take(r.lease.by, int64(n)) {
		return 0, tooManyBytes(bodyBytesHeldMax)
	}
	r.lease.bytes += int64(n)
	return n, err
}

// end gives everything back.
func (l *lease) end() {
	if l.bytes > 0 {
		l.budgets.bytes.giveBack(l.by, l.bytes)
		l.bytes = 0
	}
}
