package rest

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/status"

	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
)

// ingestBody is a batch as a caller of REST writes it.
func ingestBody(events int) []byte {
	var body bytes.Buffer
	body.WriteByte('[')
	for i := range events {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"request_id": "row-%d", "sku": "llm.tokens", "quantity": %d, "org_id": "acme", `+
			`"project_id": "web", "time": "2026-01-02T03:04:05.000006Z"}`, i, i)
	}
	body.WriteByte(']')
	return body.Bytes()
}

func BenchmarkDecodeIngest(b *testing.B) {
	const events = 2000
	body := ingestBody(events)
	codec := newCodec()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		var decoded []*meteringv1.UsageEvent
		if err := codec.decode(body, &decoded); err != nil || len(decoded) != events {
			b.Fatal(err, len(decoded))
		}
	}
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

func TestAnAnswerHasTheSameBytesInEveryBuild(t *testing.T) {
	if got := string(compact([]byte(`{"a": 1, "b":[ "x y" ]}`))); got != `{"a":1,"b":["x y"]}` {
		t.Fatalf("written as %s", got)
	}
	answer := &status.Status{Code: 3, Message: "a text, with spaces"}
	text, err := newCodec().Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"code":3,"message":"a text, with spaces","details":[]}`; string(text) != want {
		t.Fatalf("written as %s, not %s", text, want)
	}
}
