package rest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
)

const (
	// tagBytes of a SHA-256 name a representation: enough that two never share a name.
	tagBytes = 16
	// gzipTag ends the tag of a compressed answer: other bytes need another strong tag.
	gzipTag = "-gzip"
)

// wholeAnswer holds an answer back until it is complete: only then are its tag and its size known.
type wholeAnswer struct {
	http.ResponseWriter
	request *http.Request
	status  int
	body    []byte
	// tagged answers have a strong ETag, and are not sent again to who has them.
	tagged bool
}

// Unwrap is for http.ResponseController.
func (a *wholeAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader notes the status; the first one counts.
func (a *wholeAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write adds to the body.
func (a *wholeAnswer) Write(text []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, text...)
	return len(text), nil
}

// send sends the answer: not at all when the caller has it, compressed when it likes that.
func (a *wholeAnswer) send() {
	a.WriteHeader(http.StatusOK)
	header := a.Header()
	header.Set("Vary", strings.Join(append(header.Values("Vary"), "Accept-Encoding"), ", "))
	suffix := ""
	if len(a.body) >= gzipBytesMin && header.Get("Content-Encoding") == "" && acceptsGzip(a.request.Header) {
		suffix = gzipTag
	}
	if a.tagged && a.status == http.StatusOK {
		tag := tagOf(header.Get("Etag"), a.body)
		header.Set("Etag", `"`+tag+suffix+`"`)
		if header.Get("Cache-Control") == "" {
			header.Set("Cache-Control", "private, no-cache")
		}
		if known := matching(a.request.Header.Values("If-None-Match"), tag, suffix); known != "" {
			header.Set("Etag", known)
			header.Del("Content-Type")
			header.Del("Content-Length")
			a.ResponseWriter.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if suffix != "" {
		if smaller, err := compressed(a.body); err == nil {
			header.Set("Content-Encoding", "gzip")
			a.body = smaller
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(a.body)))
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(a.body) // a client that has gone needs no answer; to HEAD the server sends none
}

// tagOf names a representation: as its service does, or by its bytes.
func tagOf(given string, body []byte) string {
	if tag, quoted := strings.CutPrefix(given, `"`); quoted {
		return strings.TrimSuffix(tag, `"`)
	}
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:tagBytes])
}

// matching is the tag of an If-None-Match that stands for the answer, compressed or not; empty when there is none.
func matching(given []string, tag, suffix string) string {
	for _, part := range strings.Split(strings.Join(given, ","), ",") {
		switch part = strings.TrimPrefix(strings.TrimSpace(part), "W/"); part {
		case `"` + tag + `"`, `"` + tag + gzipTag + `"`:
			return part
		case "*":
			return `"` + tag + suffix + `"`
		}
	}
	return ""
}

// tagSingle gives the answers that are about one thing a tag.
func tagSingle(ctx context.Context, _ http.ResponseWriter, _ proto.Message) error {
	body, read := ctx.Value(bodyKey{}).(*requestBody)
	if rpc := traitsOf(ctx); read && body.answer != nil && body.reads() && rpc != nil {
		body.answer.tagged = rpc.single
	}
	return nil
}
