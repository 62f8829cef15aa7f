package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// asGateway makes the test binary be the gateway, for tests that need a process of its own.
const asGateway = "TOLLMESH_TEST_AS_GATEWAY"

func TestMain(m *testing.M) {
	switch os.Getenv(asGateway) {
	case "":
		os.Exit(m.Run())
	case "parent":
		beParent()
	default:
		main()
	}
}

// beParent starts a gateway, passes its first line on, and dies without a word.
func beParent() {
	child := exec.Command(os.Args[0], os.Args[1:]...)
	child.Env = append(os.Environ(), asGateway+"=yes")
	out, err := child.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := child.Start(); err != nil {
		panic(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	_, _ = os.Stdout.WriteString(line)
	_, _ = io.ReadAll(os.Stdin) // until the test says so
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func noEnvironment(string) string { return "" }

func TestParse(t *testing.T) {
	got, err := parse([]string{"--grpc", "h:1", "--deadline", "2s"}, func(name string) string {
		return map[string]string{"TOLLMESH_REST_LISTEN": "127.0.0.1:9", "TOLLMESH_ADDRESS": "h:2"}[name]
	})
	if err != nil || got.listen != "127.0.0.1:9" || got.grpcAddress != "h:1" || got.deadline != 2*time.Second {
		t.Errorf("%+v %v", got, err)
	}
	for _, arguments := range [][]string{
		{"--deadline", "0s"}, {"--body-bytes-max", "0"}, {"--in-flight-max", "-1"}, {"--drain-notice", "-1s"}, {"extra"},
		{"--grpc", "127.0.0.1:73046"}, {"--grpc", "h:0"}, {"--listen", "127.0.0.1:65536"}, {"--grpc", "[::1]:99999999999999999999"}, {"--no-such"},
	} {
		if _, err := parse(arguments, noEnvironment); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%v was taken", arguments)
		}
	}
}

// slowPath is a call to slowMesh.
const slowPath = "/v1/billing/charges"

// slowMesh is well, and serves calls that take as long as the test says.
type slowMesh struct {
	entered, release chan struct{}
}

func (s *slowMesh) serve(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	s.entered <- struct{}{}
	<-s.release
	return stream.SendMsg(&emptypb.Empty{}) // of every message the empty one
}

func startSlowMesh(t *testing.T) (*slowMesh, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mesh := &slowMesh{make(chan struct{}), make(chan struct{})}
	server := grpc.NewServer(grpc.UnknownServiceHandler(mesh.serve))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return mesh, listener.Addr().String()
}

// start runs the gateway as a process; the address is what it printed.
func start(t *testing.T, kind string, arguments ...string) (*exec.Cmd, io.WriteCloser, string) {
	t.Helper()
	command := exec.Command(os.Args[0], append([]string{"--listen", "127.0.0.1:0"}, arguments...)...)
	command.Env = append(os.Environ(), asGateway+"="+kind)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	var announced struct{ Listen string }
	if err := json.NewDecoder(out).Decode(&announced); err != nil || announced.Listen == "" {
		t.Fatalf("no address was announced: %v", err)
	}
	return command, in, announced.Listen
}

func TestHalfOfTheProcessorsAreLeftToTheMesh(t *testing.T) {
	for ofMachine, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 16: 8} {
		if got := processors(ofMachine); got != want {
			t.Errorf("of %d processors %d, not %d", ofMachine, got, want)
		}
	}
}

func TestTermIsTakenBackBeforeTheListenerGoes(t *testing.T) {
	_, address := startSlowMesh(t)
	command, _, rest := start(t, "yes", "--grpc", address, "--drain-notice", "500ms")
	status := func(path string) int {
		response, err := http.Get("http://" + rest + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if got := status("/readyz"); got != 200 {
		t.Errorf("/readyz: %d", got)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for status("/readyz") != 503 {
		time.Sleep(5 * time.Millisecond)
	}
	if got := status("/healthz"); got != 200 {
		t.Errorf("/healthz: %d", got)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestTermDrainsCallsInFlight(t *testing.T) {
	mesh, address := startSlowMesh(t)
	command, _, rest := start(t, "yes", "--grpc", address)
	answered := make(chan int, 1)
	go func() {
		response, err := http.Get("http://" + rest + slowPath)
		if err != nil {
			answered <- 0
			return
		}
		defer response.Body.Close()
		answered <- response.StatusCode
	}()
	<-mesh.entered
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitRefusal(t, rest)
	close(mesh.release)
	if got := <-answered; got != 200 {
		t.Errorf("the call in flight got %d", got)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

// awaitRefusal waits until nothing listens at the address.
func awaitRefusal(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			connection.Close()
		}
	}
	t.Fatalf("%s still listens", address)
}

func TestTermEndsHungCallsAfterTheDrain(t *testing.T) {
	mesh, address := startSlowMesh(t)
	command, _, rest := start(t, "yes", "--grpc", address, "--drain", "100ms")
	go func() {
		if response, err := http.Get("http://" + rest + slowPath); err == nil {
			response.Body.Close()
		}
	}()
	<-mesh.entered
	defer close(mesh.release)
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

// startTailing runs a mesh whose streams never end of themselves.
func startTailing(t *testing.T) (<-chan struct{}, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		close(opened)
		<-stream.Context().Done()
		return stream.Context().Err()
	}))
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return opened, listener.Addr().String()
}

func TestTermEndsTailsAtOnce(t *testing.T) {
	opened, address := startTailing(t)
	command, _, rest := start(t, "yes", "--grpc", address, "--drain", "1m")
	last := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + rest + "/v1/events:tail")
		if err != nil {
			last <- err.Error()
			return
		}
		defer response.Body.Close()
		content, _ := io.ReadAll(response.Body)
		last <- string(content)
	}()
	<-opened
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if content := <-last; !strings.Contains(content, "DEPENDENCY_UNAVAILABLE") {
		t.Errorf("the tail ended with %q", content)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestEndsWithItsParent(t *testing.T) {
	_, in, rest := start(t, "parent", "--exit-with-parent")
	if connection, err := net.Dial("tcp", rest); err != nil {
		t.Fatalf("not up: %v", err)
	} else {
		connection.Close()
	}
	in.Close()
	awaitRefusal(t, rest)
}

func TestWhileParentLives(t *testing.T) {
	var parent atomic.Int64
	parent.Store(7)
	ctx, cancel := whileParentLives(context.Background(), func() int { return int(parent.Load()) }, time.Millisecond)
	defer cancel()
	time.Sleep(20 * time.Millisecond)
	if ctx.Err() != nil {
		t.Fatal("ended while the parent lives")
	}
	parent.Store(1)
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("goes on without its parent")
	}
}

func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	command := exec.Command(os.Args[0], "--listen", listener.Addr().String())
	command.Env = append(os.Environ(), asGateway+"=yes")
	var complaint bytes.Buffer
	command.Stderr = &complaint
	err = command.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
	if text := complaint.String(); !strings.Contains(text, "port is in use") ||
		!strings.Contains(text, listener.Addr().String()) {
		t.Errorf("stderr: %q", text)
	}
}
