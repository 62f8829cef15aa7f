#!/bin/sh
# google.golang.org/grpc 1.79.1 (Go): a client that makes one small unary call after the other sends an HTTP/2 PING with each
# answer: 20 calls, 20 pings, which the server has to acknowledge, beside a WINDOW_UPDATE each. They are no keep-alives, which are
# off by default, but measure the round trip for flow-control windows that grow, and go on for as long as the windows are small
# enough to grow, which those of small answers always are. With both windows given (WithInitialWindowSize and
# WithInitialConnWindowSize) the same calls send none. The frames are counted on a relay between client and server.
set -eu
command -v go >/dev/null || { echo "needs Go"; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOPATH="$work/go" GOFLAGS=-mod=mod
go mod init example.test/pings >/dev/null 2>&1
go get google.golang.org/grpc@v1.79.1 >/dev/null 2>&1
cat > main.go <<'GO'
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const calls = 20

// counter relays what a client sends and counts its frames by type, acknowledgements left out.
type counter struct {
	mutex sync.Mutex
	seen  map[byte]int
}

func (c *counter) relay(from io.Reader, to io.Writer) {
	preface := make([]byte, 24)
	if _, err := io.ReadFull(from, preface); err != nil {
		return
	}
	_, _ = to.Write(preface)
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(append([]byte{0}, head[:3]...)))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[4]&1 == 0 || head[3] != 6 {
			c.mutex.Lock()
			c.seen[head[3]]++
			c.mutex.Unlock()
		}
		_, _ = to.Write(append(head, body...))
	}
}

func pings(server string, options ...grpc.DialOption) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	count := &counter{seen: map[byte]int{}}
	go func() {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		onward, err := net.Dial("tcp", server)
		check(err)
		go func() { _, _ = io.Copy(client, onward) }()
		count.relay(client, onward)
	}()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	connection, err := grpc.NewClient(listener.Addr().String(), options...)
	check(err)
	defer connection.Close()
	stub := healthpb.NewHealthClient(connection)
	for range calls {
		_, err := stub.Check(context.Background(), &healthpb.HealthCheckRequest{})
		check(err)
		time.Sleep(20 * time.Millisecond) // so that each answer stands for itself
	}
	count.mutex.Lock()
	defer count.mutex.Unlock()
	return count.seen[6]
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	address := listener.Addr().String()
	byDefault := pings(address)
	given := pings(address, grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(8<<20))
	fmt.Printf("grpc-go %s, %d calls: %d pings by default, %d with windows of given sizes\n", grpc.Version, calls, byDefault, given)
	if byDefault < calls-1 || given != 0 {
		os.Exit(1)
	}
}
GO
go get ./... >/dev/null 2>&1
go run .
echo "as described"
