package rest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
)

// net/http answers what it cannot read as a request by itself, in plain text, before any handler. Listen puts the
// typed error of every other refusal in its place.

// Listen wraps a listener so that all errors of its connections are typed.
func Listen(listener net.Listener) net.Listener { return typedListener{listener} }

type typedListener struct{ net.Listener }

// Accept takes the next connection.
func (l typedListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &typedConnection{Conn: connection}, nil
}

type typedConnection struct {
	net.Conn
	// refused is true once net/http has refused a request by itself.
	refused atomic.Bool
}

const (
	// unreadBytesMax and unreadWaitMax bound what is read of a request behind its refusal.
	unreadBytesMax = 256 << 10
	unreadWaitMax  = 500 * time.Millisecond
)

var (
	statusLine = []byte("HTTP/1.1 ")
	// plainText stands behind the status line of what net/http writes by itself, and of nothing that a handler
	// of ours writes.
	plainText = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	// noExpectation is the other answer that it gives by itself, without a body.
	noExpectation = []byte("417 ")
)

// Write writes to the client.
func (c *typedConnection) Write(data []byte) (int, error) {
	code, own := ofServer(data)
	if !own {
		return c.Conn.Write(data)
	}
	if _, err := c.Conn.Write(refusalOf(code)); err != nil {
		return 0, err
	}
	c.refused.Store(true)
	return len(data), nil
}

// Close ends the connection. Behind a refusal the rest of the request is read first, within bounds: closed over bytes
// that nobody has read, the connection would be reset, and with it the answer lost.
func (c *typedConnection) Close() error {
	if c.refused.Load() {
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(unreadWaitMax))
		_, _ = io.CopyN(io.Discard, c.Conn, unreadBytesMax)
	}
	return c.Conn.Close()
}

// CloseWrite tells the client that nothing more comes. net/http asks for it after a refusal, so that the client reads
// this before the connection is gone.
func (c *typedConnection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// ofServer tells whether net/http wrote an answer by itself, and with which status. It writes each as a whole.
func ofServer(data []byte) (int, bool) {
	if !bytes.HasPrefix(data, statusLine) {
		return 0, false
	}
	line, _, _ := bytes.Cut(data, []byte("\r\n"))
	rest := data[len(line):]
	if !bytes.HasPrefix(rest, plainText) && !bytes.HasPrefix(line[len(statusLine):], noExpectation) {
		return 0, false
	}
	number, _, _ := bytes.Cut(line[len(statusLine):], []byte(" "))
	code, err := strconv.Atoi(string(number))
	return code, err == nil && code >= http.StatusBadRequest
}

// refusalOf is a whole HTTP answer for a request that could not be read.
func refusalOf(code int) []byte {
	text := render(unreadable(code))
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		code, http.StatusText(code), len(text))
	answer.Write(text)
	return answer.Bytes()
}

// unreadable is the error of a request that is no HTTP as it is spoken here.
func unreadable(code int) *status.Status {
	switch code {
	case http.StatusRequestHeaderFieldsTooLarge:
		return headersTooLarge(HeaderBytesMax)
	case http.StatusExpectationFailed:
		return malformed("the header Expect supports only 100-continue; leave it out")
	case http.StatusNotImplemented:
		return fault(codes.Unimplemented, errorsv1.ErrorReason_ERROR_REASON_MALFORMED_HTTP,
			"the header Transfer-Encoding supports only chunked; leave it out", nil)
	case http.StatusHTTPVersionNotSupported:
		return malformed("this is not HTTP/1.1")
	}
	return malformed("the request line, a header or an escape in the path is not valid HTTP/1.1")
}

func malformed(message string) *status.Status {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_MALFORMED_HTTP, message, nil)
}

func headersTooLarge(bytesMax int) *status.Status {
	return fault(codes.InvalidArgument, errorsv1.ErrorReason_ERROR_REASON_HEADERS_TOO_LARGE,
		fmt.Sprintf("the headers are larger than %d bytes; shorten the key, the ids or the trace state", bytesMax),
		map[string]string{"bytes_max": strconv.Itoa(bytesMax)})
}
