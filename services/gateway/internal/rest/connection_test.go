package rest

import (
	"bytes"
	"net"
	"net/http"
	"sync"
	"testing"
)

// recorder is a listener that keeps what its connections read.
type recorder struct {
	net.Listener
	mutex sync.Mutex
	read  bytes.Buffer
}

func (r *recorder) Accept() (net.Conn, error) {
	connection, err := r.Listener.Accept()
	return &recorded{connection, r}, err
}

type recorded struct {
	net.Conn
	kept *recorder
}

func (c *recorded) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.kept.mutex.Lock()
	defer c.kept.mutex.Unlock()
	c.kept.read.Write(data[:n])
	return n, err
}

// framesOf counts the frames of HTTP/2 by their type, acknowledgements aside.
func (r *recorder) framesOf(t *testing.T) map[byte]int {
	const headerBytes, acknowledged = 9, 1
	r.mutex.Lock()
	defer r.mutex.Unlock()
	text, found := bytes.CutPrefix(r.read.Bytes(), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if !found {
		t.Fatalf("not one connection of HTTP/2: %q", text)
	}
	frames := map[byte]int{}
	for len(text) >= headerBytes {
		if size, kind := int(text[0])<<16|int(text[1])<<8|int(text[2]), text[3]; len(text) >= headerBytes+size {
			if text[4]&acknowledged == 0 || kind < 4 { // elsewhere the flag ends a stream
				frames[kind]++
			}
			text = text[headerBytes+size:]
			continue
		}
		break
	}
	return frames
}

// Windows that are measured take a ping with each call: the mesh would read, and answer, two messages for one.
func TestCallsSendNothingBesides(t *testing.T) {
	const calls, data, headers, ping, windowUpdate = 20, 0, 1, 6, 8
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept := &recorder{Listener: listener}
	client := newClient(t, newMeshOn(t, kept, nil).address, defaults)
	for range calls {
		if answer := client.do("GET", "/v1/billing/charges/chg_1", ""); answer.status != http.StatusOK {
			t.Fatal(answer)
		}
	}
	frames := kept.framesOf(t)
	if frames[headers] != calls || frames[data] != calls {
		t.Fatalf("the calls are not seen: %v", frames)
	}
	// One update widens the window of the connection.
	if frames[ping] > 0 || frames[windowUpdate] > 1 {
		t.Errorf("%d pings, %d updates of windows", frames[ping], frames[windowUpdate])
	}
}
