// Command gateway is the REST facade of a Tollmesh: it answers HTTP with JSON by calling the mesh's
// gRPC port, along the google.api.http annotations of the schemas. It holds no state and decides nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"tollmesh.dev/gateway/internal/rest"
)

// options are what the command line and the environment settle.
type options struct {
	listen         string
	grpcAddress    string
	deadline       time.Duration
	drainMax       time.Duration
	drainNotice    time.Duration
	bodyBytesMax   int64
	inFlightMax    int
	streamsMax     int
	originList     string
	origins        []string
	exitWithParent bool
	showVersion    bool
}

// version is that of the release: what `tollmesh doctor` compares with its own.
const version = "0.1.0"

const (
	// gcPercent lets the few MiB that live here grow before they are collected: at Go's own 100 it collects every
	// hundred calls.
	gcPercent   = 800
	exitFailure = 1
	exitUsage   = 2
	// parentPoll is how often the parent is looked for.
	parentPoll = 500 * time.Millisecond
)

func main() {
	options, err := parse(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(exitUsage)
	}
	if options.showVersion {
		fmt.Println(version)
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors(runtime.GOMAXPROCS(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, options, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(exitFailure)
	}
}

// processors are how many of the machine's run this process: half of them. Mesh and Postgres need the others, and every
// thread more is woken with each call, only to find that there is nothing to do.
func processors(ofMachine int) int { return (ofMachine + 1) / 2 }

// parse reads the flags; each has an environment variable as its default.
func parse(arguments []string, getenv func(string) string) (options, error) {
	env := func(name, fallback string) string {
		if value := getenv(name); value != "" {
			return value
		}
		return fallback
	}
	var o options
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", env("TOLLMESH_REST_LISTEN", "127.0.0.1:7480"),
		"address to serve HTTP on, host:port; port 0 takes a free one (TOLLMESH_REST_LISTEN)")
	flags.StringVar(&o.grpcAddress, "grpc", env("TOLLMESH_ADDRESS", "127.0.0.1:7443"),
		"gRPC address of the mesh, host:port (TOLLMESH_ADDRESS)")
	flags.DurationVar(&o.deadline, "deadline", 30*time.Second,
		"deadline of a call that names none in a Grpc-Timeout header")
	flags.DurationVar(&o.drainMax, "drain", 10*time.Second,
		"how long calls may go on after SIGTERM")
	flags.DurationVar(&o.drainNotice, "drain-notice", 0,
		"how long, after SIGTERM, calls are taken while /readyz refuses already")
	flags.Int64Var(&o.bodyBytesMax, "body-bytes-max", rest.BodyBytesMax,
		"largest request body, in bytes")
	flags.IntVar(&o.inFlightMax, "in-flight-max", rest.InFlightMax,
		"calls at a time, three quarters of them of one key; more are answered 429 with Retry-After")
	flags.IntVar(&o.streamsMax, "streams-max", rest.StreamsMax,
		"streams at a time beside the calls, half of them of one key; more are answered 429 with Retry-After")
	flags.StringVar(&o.originList, "cors-origins", env("TOLLMESH_REST_CORS_ORIGINS", ""),
		"origins whose pages may call from a browser, separated by commas, as https://console.example; * for any (TOLLMESH_REST_CORS_ORIGINS)")
	flags.BoolVar(&o.exitWithParent, "exit-with-parent", false,
		"stop when the process that started this one is gone")
	flags.BoolVar(&o.showVersion, "version", false, "print the version and end")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	o.origins = strings.FieldsFunc(o.originList, func(r rune) bool { return r == ',' || r == ' ' })
	return o, check(o, flags.Args())
}

// check refuses values that would only fail later, or never.
func check(o options, more []string) error {
	switch {
	case len(more) > 0:
		return fmt.Errorf("unknown argument %q; see --help", more[0])
	case !hasPort(o.listen, 0):
		return fmt.Errorf("--listen is %q; give it a port from 0 to 65535", o.listen)
	case !hasPort(o.grpcAddress, 1):
		return fmt.Errorf("--grpc is %q; give it a port from 1 to 65535", o.grpcAddress)
	case o.deadline <= 0:
		return fmt.Errorf("--deadline is %s; it must be positive", o.deadline)
	case o.drainNotice < 0:
		return fmt.Errorf("--drain-notice is %s; it must not be negative", o.drainNotice)
	case o.bodyBytesMax <= 0 || o.inFlightMax <= 0 || o.streamsMax <= 0:
		return errors.New("--body-bytes-max, --in-flight-max and --streams-max must be positive")
	}
	if err := rest.CheckOrigins(o.origins); err != nil {
		return fmt.Errorf("--cors-origins: %w", err)
	}
	return nil
}

// hasPort tells whether the port that an address ends in is one; an address may also name none, as gRPC's may.
func hasPort(address string, lowest uint64) bool {
	digits := address[strings.LastIndex(address, ":")+1:]
	if len(digits) == len(address) || strings.Trim(digits, "0123456789") != "" || digits == "" {
		return true
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	return err == nil && port >= lowest
}

// run serves until ctx ends or the parent is gone, then lets calls in flight finish.
func run(ctx context.Context, o options, announce io.Writer) error {
	if o.exitWithParent {
		var cancel context.CancelFunc
		ctx, cancel = whileParentLives(ctx, os.Getppid, parentPoll)
		defer cancel()
	}
	connection, err := rest.Dial(ctx, o.grpcAddress, o.deadline)
	if err != nil {
		return fmt.Errorf("gRPC address %q: %w", o.grpcAddress, err)
	}
	defer connection.Close()
	server, err := newServer(ctx, connection, o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("cannot listen on %s: the port is in use; choose another with --listen", o.listen)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", o.listen, err)
	}
	if err := json.NewEncoder(announce).Encode(map[string]string{"listen": listener.Addr().String()}); err != nil {
		return errors.Join(err, listener.Close())
	}
	return serve(ctx, server, rest.Listen(listener), o.drainNotice, o.drainMax)
}

func newServer(ctx context.Context, connection *grpc.ClientConn, o options) (*http.Server, error) {
	handler, err := rest.NewHandler(ctx, connection, rest.Limits{
		BodyBytesMax: o.bodyBytesMax,
		InFlightMax:  o.inFlightMax,
		StreamsMax:   o.streamsMax,
		Deadline:     o.deadline,
		Origins:      o.origins,
	})
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    rest.HeaderBytesMax,
		// Reading of bodies and writing of answers have deadlines of their own, per call: a tail may
		// stay open for hours, an ordinary call may not.
	}, nil
}

// serve answers on the listener until ctx ends, then takes calls for drainNotice, in which balancers find that it is not
// ready any more, then drains for at most drainMax.
func serve(ctx context.Context, server *http.Server, listener net.Listener, drainNotice, drainMax time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-failed:
		return err
	case <-time.After(drainNotice):
	}
	drain, cancel := context.WithTimeout(context.Background(), drainMax)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		// Only hung calls are left; their clients see the connection close.
		return server.Close()
	}
	return nil
}

// whileParentLives ends its context once the process is handed to another parent.
func whileParentLives(ctx context.Context, getppid func() int, poll time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	parent := getppid()
	go func() {
		ticker := time.NewTicker(poll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if getppid() != parent {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, cancel
}
