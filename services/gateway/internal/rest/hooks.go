package rest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

// What third parties send in their own form, as processors do with their webhooks: they sign it, and send no key.

// notOfHooks are the headers that say nothing of what was sent, or hold our own key.
var notOfHooks = map[string]bool{"Authorization": true, "Cookie": true, "Proxy-Authorization": true}

// takeHookKey takes the key of a call out of its address, where its sender has it from us.
func takeHookKey(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query", "it is malformed: separate parameters with &, and percent-encode other special characters")
	}
	keys := query[contract.HookKeyParameter]
	if len(keys) == 0 {
		return nil
	}
	if len(keys) > 1 || len(r.Header.Values("Authorization")) > 0 || !printable(keys[0]) {
		return invalid(contract.HookKeyParameter, "send one key, in the address or in a header")
	}
	r.Header.Set("Authorization", "Bearer "+keys[0])
	query.Del(contract.HookKeyParameter)
	changed := *r.URL
	changed.RawQuery = query.Encode()
	r.URL = &changed
	return nil
}

// setHookHeaders hands the headers of a hook over. None is a list: one that comes twice must be the same.
func setHookHeaders(message protoreflect.Message, field protoreflect.FieldDescriptor, header http.Header) error {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if notOfHooks[name] {
			continue
		}
		value, err := textOf(header, name)
		if err != nil {
			return err
		}
		key := protoreflect.ValueOfString(strings.ToLower(name)).MapKey()
		message.Mutable(field).Map().Set(key, protoreflect.ValueOfString(value))
	}
	return nil
}
