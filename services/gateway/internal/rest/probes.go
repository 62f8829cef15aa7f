package rest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	errorsv1 "tollmesh.dev/gen/go/payments/errors/v1"
)

const (
	// livePath tells whether this process works, whatever becomes of the mesh.
	livePath = "/healthz"
	// readyPath tells whether calls would be served now.
	readyPath = "/readyz"
	// readyTimeout bounds one question to the mesh, and readyMemory how long its answer counts: with the
	// mesh's own 2.1 seconds a change is seen within three.
	readyTimeout = 500 * time.Millisecond
	readyMemory  = 200 * time.Millisecond
)

// probes answer who asks how the facade is. They need no key, tell nothing else, and take no slot: a facade that is
// busy is neither dead nor gone.
type probes struct {
	health   healthpb.HealthClient
	lifetime context.Context

	mutex   sync.Mutex
	asked   time.Time
	refusal error // of the last answer; nil while the mesh serves
}

// serve answers a probe; false for every other call.
func (p *probes) serve(w http.ResponseWriter, r *http.Request, refuse func(error)) bool {
	isProbe := r.URL.Path == livePath || r.URL.Path == readyPath
	if !isProbe || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == readyPath {
		if err := p.ready(); err != nil {
			refuse(err)
			return true
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"SERVING"}`)) // a client that has gone needs no answer
	return true
}

// ready is nil when calls are served.
func (p *probes) ready() error {
	if p.lifetime.Err() != nil {
		return notReady("this facade is shutting down")
	}
	p.mutex.Lock() // one question at a time, whose answer is everybody's
	defer p.mutex.Unlock()
	if time.Since(p.asked) > readyMemory {
		p.refusal = p.ask()
		p.asked = time.Now()
	}
	return p.refusal
}

func (p *probes) ask() error {
	ctx, cancel := context.WithTimeout(p.lifetime, readyTimeout)
	defer cancel()
	answer, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.ResourceExhausted:
		return nil // it answers as many calls as it can
	case err != nil:
		return notReady("the mesh is unavailable")
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return notReady("the mesh is not serving")
	}
	return nil
}

func notReady(message string) error {
	return fault(codes.Unavailable, errorsv1.ErrorReason_ERROR_REASON_DEPENDENCY_UNAVAILABLE, message,
		map[string]string{"service": "mesh"},
		&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 1}}).Err()
}
