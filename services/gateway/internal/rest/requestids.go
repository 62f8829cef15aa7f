package rest

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A call is answered under the id that it has in logs and violations. The mesh replaces an id that holds a card number,
// which it alone can tell, and says in the metadata of each answer what the call was called. Until then, and where it says
// nothing, an id that may hold one is not repeated.

const (
	requestIDHeader = "X-Request-Id"
	// requestIDBytesMax bounds an id that a caller brings; it ends up in every log line.
	requestIDBytesMax = 128
	// cardDigitsMin is how many digits a card number has at least.
	cardDigitsMin = 12
)

// hexIDs are UUIDs and trace ids; with a letter among them they are no card numbers.
var hexIDs = regexp.MustCompile(
	`^(?i:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9a-f]{32})$`)

// setRequestID gives the call its request id, and the answer one that may be shown.
func setRequestID(w http.ResponseWriter, r *http.Request) {
	id, err := single(r.Header, requestIDHeader)
	brought := id != "" && len(id) <= requestIDBytesMax && printable(id)
	if !brought {
		id = uuid.NewString()
	}
	if err == nil { // else it is refused
		r.Header.Set(requestIDHeader, id)
	}
	if brought && mayHoldCardNumber(id) {
		id = uuid.NewString()
	}
	w.Header().Set(requestIDHeader, id)
}

// mayHoldCardNumber looks at digits alone, and takes escapes for digits.
func mayHoldCardNumber(id string) bool {
	if strings.ContainsAny(id, `%&\`) {
		return true
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, id)
	isHex := hexIDs.MatchString(id) && strings.ContainsAny(id, "abcdefABCDEF")
	return len(digits) >= cardDigitsMin && !isHex
}

// answerKey finds the headers of the answer in the context of a call.
type answerKey struct{}

// setAnsweredID names the call in its answer as the mesh does.
func setAnsweredID(ctx context.Context, told ...metadata.MD) {
	header, ok := ctx.Value(answerKey{}).(http.Header)
	if !ok {
		return // a probe, which has no id
	}
	for _, values := range told {
		for _, id := range values.Get(requestIDHeader) {
			header.Set(requestIDHeader, id)
		}
	}
}

// answeredID is the id under which a call is answered.
func answeredID(ctx context.Context) string {
	header, _ := ctx.Value(answerKey{}).(http.Header)
	return header.Get(requestIDHeader)
}

func withAnsweredID(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	var header, trailer metadata.MD
	err := invoke(ctx, method, request, reply, connection, append(options, grpc.Header(&header), grpc.Trailer(&trailer))...)
	setAnsweredID(ctx, header, trailer)
	return err
}
