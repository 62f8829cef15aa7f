package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/rs/cors"
)

// preflightMemory is how long a browser need not ask again.
const preflightMemory = 10 * time.Minute

// CheckOrigins refuses what is no origin among those that may call from a browser.
func CheckOrigins(origins []string) error {
	for _, origin := range origins {
		parsed, err := url.Parse(origin)
		isOrigin := err == nil && (parsed.Scheme == "https" || parsed.Scheme == "http") && parsed.Host != "" &&
			parsed.Scheme+"://"+parsed.Host == origin
		if origin != "*" && !isOrigin {
			return fmt.Errorf("%q is no origin; write it as https://console.example or http://localhost:3000, or * for any", origin)
		}
	}
	return nil
}

// withCORS lets pages of some origins call from a browser. No cookie counts here, so none is ever asked for.
func withCORS(next http.Handler, origins []string) (http.Handler, error) {
	if err := CheckOrigins(origins); err != nil || len(origins) == 0 {
		return next, err
	}
	policy := cors.New(cors.Options{
		AllowedOrigins: slices.Clone(origins),
		AllowedMethods: []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		},
		AllowedHeaders: []string{
			"Authorization", "Content-Type", "Content-Encoding", "Accept", idempotencyKeyHeader, requestIDHeader, "If-Match",
			"If-None-Match", lastEventIDHeader, timeoutHeader, "Traceparent", "Tracestate",
		},
		ExposedHeaders: []string{"ETag", "Link", "Location", "Retry-After", nextCursorHeader, requestIDHeader},
		MaxAge:         int(preflightMemory.Seconds()),
	})
	return policy.Handler(next), nil
}
