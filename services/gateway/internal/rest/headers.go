package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const idempotencyKeyHeader = "Idempotency-Key"

// incomingHeader names the headers that travel to the mesh as metadata. Authorization travels too, the
// runtime sees to it; nothing else does, so that no caller can write the mesh's own metadata.
func incomingHeader(name string) (string, bool) {
	switch name {
	case idempotencyKeyHeader, requestIDHeader, "Traceparent", "Tracestate", "If-Match":
		return strings.ToLower(name), true
	}
	return "", false
}

// outgoingHeader names the metadata that travels back as headers.
func outgoingHeader(name string) (string, bool) {
	switch name {
	case "etag", "location", "retry-after":
		return http.CanonicalHeaderKey(name), true
	}
	return "", false
}

// prepareHeaders gives the call its request id and makes header values fit for metadata, which is
// printable ASCII.
func prepareHeaders(w http.ResponseWriter, r *http.Request) {
	setRequestID(w, r)
	// Escaped, not dropped: a call that loses its key could be made twice.
	for i, key := range r.Header.Values(idempotencyKeyHeader) {
		if !printable(key) {
			r.Header[idempotencyKeyHeader][i] = url.QueryEscape(key)
		}
	}
	if parents := r.Header.Values("Traceparent"); len(parents) > 1 {
		r.Header.Set("Traceparent", parents[0])
		if slices.ContainsFunc(parents, func(parent string) bool { return parent != parents[0] }) {
			r.Header.Del("Traceparent") // as W3C has it, a trace with two parents is none; gRPC would take the last
		}
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host"} {
		// The runtime passes them on without a look, and gRPC refuses to send them.
		if !printable(strings.Join(r.Header.Values(name), "")) {
			r.Header.Del(name)
		}
	}
	if !printable(strings.Join(r.Header.Values("Authorization"), "")) {
		r.Header.Del("Authorization") // no key of ours; the mesh answers UNAUTHENTICATED
	}
}

// showsMeshToken tells whether a caller brings what only services show one another. The mesh takes such a token
// by its signature, wherever it comes from; from outside it can only have leaked.
func showsMeshToken(header http.Header) bool {
	for _, value := range header.Values("Authorization") {
		scheme, _, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Mesh") {
			return true
		}
	}
	return false
}

func printable(value string) bool {
	for _, b := range []byte(value) {
		if b < 0x20 || b > 0x7e {
			return false
		}
	}
	return true
}
