package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gateway/internal/contract"
)

const (
	schemaPrefix = "#/components/schemas/"
	jsonType     = "application/json"
	errorSchema  = "google.rpc.Status"
	overview     = `The REST facade of Tollmesh. Names are those of the schemas, in snake_case; unknown names are refused. 64-bit integers are
strings. Decimals are strings, and may be written as numbers of up to 15 significant digits without exponent.

**Keys.** Every call needs ` + "`Authorization: Bearer <API key>`" + `. A key has scopes; a call that needs another one is answered 403.

**Repeating a call.** What changes something takes a ` + "`request_id`" + ` in its body, or any text in the header ` + "`Idempotency-Key`" + `.
The same id with the same content gets the first answer again; with another content it is refused with 409
(REQUEST_ID_REUSED). So a call whose answer was lost is simply made again. Calls that take many items at once have neither:
their items are recognised by ids of their own, and a call with the header is refused with 400 (IDEMPOTENCY_KEY_UNUSED).

**Errors** are a google.rpc.Status. Its first detail is a google.rpc.ErrorInfo with the domain ` + "`tollmesh.dev`" + `, whose
` + "`reason`" + ` programs can rely on; a google.rpc.BadRequest names the fields at fault, and a google.rpc.RetryInfo says when
repeating can help. Each answer has an ` + "`X-Request-Id`" + `, under which the operator finds the call.

**Limits.** A facade works on 256 calls at a time, unless its operator chose otherwise, and the mesh on a number of its own;
beyond them a call is answered 429 (OVERLOADED) with ` + "`Retry-After`" + ` and has done nothing. There is no quota by time.
A body may have 16 MiB, also after it was unpacked. A call ends after 30 s, or after the header ` + "`Grpc-Timeout`" + `.

**Pages.** Lists take ` + "`page_size`" + ` and ` + "`page_token`" + `; the address of the next page is also in the header ` + "`Link`" + ` (rel="next").

**Representations.** Bodies may be compressed with gzip, either way. What is about one thing has a strong ` + "`ETag`" + ` and
heeds ` + "`If-None-Match`" + `. HEAD is taken wherever GET is.`
)

// problems are the errors that are described by their status.
var problems = map[string]struct{ name, description string }{
	"400": {"BadRequest", "The request is wrong, or what it asks for is not possible in the present state."},
	"401": {"Unauthenticated", "There is no key, or it is not valid."},
	"403": {"Forbidden", "The key lacks the scope that this call needs."},
	"404": {"NotFound", "There is no such resource."},
	"409": {"Conflict", "The id was used for another content."},
	"413": {"TooLarge", "The body is larger than a call may be, also after unpacking."},
	"415": {"UnsupportedMediaType", "The body is not JSON, or is encoded in another way than gzip."},
	"429": {"TooManyCalls", "As many calls as are allowed are being worked on. Nothing was done; wait for `Retry-After`."},
	"503": {"Unavailable", "The mesh cannot be reached or is short of storage. The same call can be repeated safely."},
	"504": {"DeadlineExceeded", "The call did not finish in time. The same call can be repeated safely."},
}

// examples are calls as they were recorded, by operation.
type examples struct {
	operations map[string]example
	errors     map[string]any
}

type example struct {
	Parameters map[string]any `json:"parameters"`
	Request    any            `json:"request"`
	Response   any            `json:"response"`
	// EventStream is what a stream answered, as text.
	EventStream string `json:"event_stream"`
}

// readExamples reads a folder; an operation without an example is a test's to complain of.
func readExamples(folder string) (examples, error) {
	found := examples{map[string]example{}, map[string]any{}}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return found, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return found, err
		}
		id := strings.TrimSuffix(filepath.Base(file), ".json")
		if id == "errors" {
			err = json.Unmarshal(text, &found.errors)
		} else {
			var one example
			err = json.Unmarshal(text, &one)
			found.operations[id] = one
		}
		if err != nil {
			return found, fmt.Errorf("%s: %w", file, err)
		}
	}
	return found, nil
}

// modern makes of a complete OpenAPI v2 description one of OpenAPI 3.1.
func modern(old object, methods map[string]protoreflect.MethodDescriptor, told examples) (object, error) {
	paths := object{}
	for path, item := range members(old, "paths") {
		verbs := object{}
		for verb, operation := range item.(object) {
			operation := operation.(object)
			id := operation["operationId"].(string)
			method := methods[strings.TrimRight(id, "0123456789")]
			verbs[verb] = modernOperation(operation, path, verb, method, told.operations[id])
		}
		paths[path] = verbs
	}
	info := members(old, "info")
	info["description"] = overview
	info["license"] = object{"name": "Apache-2.0", "identifier": "Apache-2.0"}
	description := object{
		"openapi":  "3.1.0",
		"info":     info,
		"servers":  []any{object{"url": "/", "description": "The facade that serves this description."}},
		"security": []any{object{"key": []any{}}},
		"tags":     tags(methods),
		"paths":    paths,
		"components": object{
			"schemas":         schemas(members(old, "definitions")),
			"responses":       errorResponses(told.errors),
			"headers":         headers(),
			"parameters":      sharedParameters(),
			"securitySchemes": object{"key": object{"type": "http", "scheme": "bearer", "description": "An API key, made by `tollmesh keys create` or `POST /v1/access/keys`."}},
		},
	}
	rewritten, ok := rewrite(description).(object)
	if !ok {
		return nil, fmt.Errorf("no description")
	}
	dropUnused(rewritten)
	return rewritten, nil
}

// tags are the services, with their comments.
func tags(methods map[string]protoreflect.MethodDescriptor) []any {
	services := map[string]string{}
	for _, method := range methods {
		service := method.Parent()
		comment := service.ParentFile().SourceLocations().ByDescriptor(service).LeadingComments
		services[string(service.Name())] = strings.TrimSpace(strings.ReplaceAll(comment, "\n ", "\n"))
	}
	var found []any
	for _, name := range slices.Sorted(maps.Keys(services)) {
		found = append(found, object{"name": name, "description": services[name]})
	}
	return found
}

// words of an RPC's name: `ListApiKeys` is "List api keys".
func words(name protoreflect.Name) string {
	var out strings.Builder
	for i, letter := range string(name) {
		if i > 0 && unicode.IsUpper(letter) {
			out.WriteByte(' ')
			letter = unicode.ToLower(letter)
		}
		out.WriteRune(letter)
	}
	return out.String()
}

func modernOperation(old object, path, verb string, method protoreflect.MethodDescriptor, told example) object {
	text := func(name string) string { found, _ := old[name].(string); return found }
	operation := object{
		"operationId": old["operationId"],
		"tags":        old["tags"],
		"summary":     words(method.Name()),
		"description": strings.TrimSpace(text("summary") + "\n\n" + text("description")),
	}
	var parameters []any
	given, _ := old["parameters"].([]any)
	for _, parameter := range given {
		parameter := parameter.(object)
		if parameter["in"] == "body" {
			operation["requestBody"] = requestBody(parameter, old["consumes"], told)
			continue
		}
		parameters = append(parameters, modernParameter(parameter, told))
	}
	if method.Input().Fields().ByName("request_id") != nil && verb != "get" {
		parameters = append(parameters, reference("parameters", "IdempotencyKey"))
	}
	single := verb == "get" && contract.IsSingle(method)
	if single {
		parameters = append(parameters, reference("parameters", "IfNoneMatch"))
	}
	if method.IsStreamingServer() {
		parameters = append(parameters, reference("parameters", "LastEventId"))
	}
	if parameters != nil {
		operation["parameters"] = parameters
	}
	responses := object{"default": reference("responses", "Error")}
	for code, response := range members(old, "responses") {
		if code != "default" {
			responses[code] = success(response.(object), method, single, told)
		}
	}
	expected := []string{"400", "401", "403", "429", "503", "504"}
	if strings.Contains(path, "{") {
		expected = append(expected, "404")
	}
	if operation["requestBody"] != nil {
		expected = append(expected, "413", "415")
	}
	if verb != "get" {
		expected = append(expected, "409")
	}
	for _, code := range expected {
		responses[code] = reference("responses", problems[code].name)
	}
	if single {
		responses["304"] = object{"description": "The caller has it already, by its `If-None-Match`.",
			"headers": object{"ETag": reference("headers", "ETag")}}
	}
	operation["responses"] = responses
	return operation
}

func reference(kind, name string) object {
	return object{"$ref": "#/components/" + kind + "/" + name}
}

// modernParameter moves the rules of a parameter into a schema of its own.
func modernParameter(old object, told example) object {
	parameter, schema := object{}, object{}
	for name, value := range old {
		switch name {
		case "name", "in", "required", "description":
			parameter[name] = value
		case "collectionFormat":
			parameter["style"], parameter["explode"] = "form", true
		default:
			schema[name] = value
		}
	}
	if schema["default"] != nil && schema["type"] == "string" && schema["enum"] == nil {
		delete(schema, "default")
	}
	parameter["schema"] = schema
	if name, _ := old["name"].(string); told.Parameters[name] != nil {
		parameter["example"] = told.Parameters[name]
	}
	return parameter
}

func requestBody(old object, mediaTypes any, told example) object {
	content := object{}
	given, _ := mediaTypes.([]any)
	if given == nil {
		given = []any{jsonType}
	}
	for _, mediaType := range given {
		media := object{"schema": old["schema"]}
		if told.Request != nil {
			media["example"] = told.Request
		}
		content[mediaType.(string)] = media
	}
	body := object{"content": content, "required": old["required"] == true}
	if description, _ := old["description"].(string); description != "" {
		body["description"] = description
	}
	return body
}

func success(old object, method protoreflect.MethodDescriptor, single bool, told example) object {
	media := object{"schema": old["schema"]}
	if told.Response != nil {
		media["example"] = told.Response
	}
	content := object{jsonType: media}
	shown := object{"X-Request-Id": reference("headers", "RequestId")}
	if members(old, "headers")["Location"] != nil {
		shown["Location"] = reference("headers", "Location")
	}
	if single {
		shown["ETag"] = reference("headers", "ETag")
	}
	if contract.PagingOf(method) != nil {
		shown["Link"] = reference("headers", "Link")
	}
	if contract.BatchField(method) != nil {
		shown["Tollmesh-Next-Cursor"] = reference("headers", "NextCursor")
		content[contract.BatchMediaType] = object{"schema": object{"type": "array", "description": "A batch of CloudEvents 1.0.",
			"items": object{"type": "object", "required": []any{"specversion", "id", "source", "type"}, "properties": object{
				"specversion": object{"type": "string"}, "id": object{"type": "string"}, "source": object{"type": "string"},
				"type": object{"type": "string"}}}}}
	}
	description := old["description"].(string)
	if method.IsStreamingServer() {
		description = "The stream: JSON lines, or Server-Sent Events to who asks for `text/event-stream`."
		events := object{"schema": object{"type": "string", "description": "Each event has the cursor of its message as `id` and the " +
			"message as `data`. An event named `problem` holds the google.rpc.Status with which the stream ended."}}
		if told.EventStream != "" {
			events["example"] = told.EventStream
		}
		content[contract.EventStreamType] = events
	}
	return object{"description": description, "headers": shown, "content": content}
}

// errorResponses are the errors, as they are really sent.
func errorResponses(told map[string]any) object {
	schema := object{"$ref": schemaPrefix + errorSchema}
	found := object{"Error": object{
		"description": "Any other error.", "headers": object{"X-Request-Id": reference("headers", "RequestId")},
		"content": object{jsonType: object{"schema": schema}},
	}}
	for code, problem := range problems {
		media := object{"schema": schema}
		if told[code] != nil {
			media["example"] = told[code]
		}
		shown := object{"X-Request-Id": reference("headers", "RequestId")}
		if status, _ := strconv.Atoi(code); status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			shown["Retry-After"] = reference("headers", "RetryAfter")
		}
		found[problem.name] = object{"description": problem.description, "headers": shown, "content": object{jsonType: media}}
	}
	return found
}

func headers() object {
	text := func(description string) object {
		return object{"description": description, "schema": object{"type": "string"}}
	}
	return object{
		"RequestId":  text("Id of this call in logs: that of the caller, or one that was made for it."),
		"Location":   text("Path of the created resource."),
		"ETag":       text("Strong tag of this representation, for `If-None-Match`."),
		"Link":       text("Address of the next page as `rel=\"next\"`; absent on the last one."),
		"NextCursor": text("With a bare batch of CloudEvents: `after` of the next page."),
		"RetryAfter": object{"description": "Seconds to wait before the call is repeated.", "schema": object{"type": "integer", "minimum": 1}},
	}
}

func sharedParameters() object {
	header := func(name, description string) object {
		return object{"name": name, "in": "header", "required": false, "description": description, "schema": object{"type": "string"}}
	}
	return object{
		"IdempotencyKey": header("Idempotency-Key", "Any text that names this request: repeated with the same key it is done once. "+
			"It stands for `request_id`; if both are sent they must agree."),
		"IfNoneMatch": header("If-None-Match", "Tags of representations that the caller has; one that still holds is not sent again."),
		"LastEventId": header("Last-Event-ID", "With `Accept: text/event-stream`: the stream goes on exactly behind the event with this id. "+
			"It counts instead of `after` and `from_start`."),
	}
}

// schemas are the messages, with the error as it is really sent.
func schemas(definitions object) object {
	detail := func(kind string, properties object, required ...any) object {
		properties["@type"] = object{"type": "string", "const": "type.googleapis.com/google.rpc." + kind}
		return object{"type": "object", "properties": properties, "required": append([]any{"@type"}, required...)}
	}
	text := func(description string) object { return object{"type": "string", "description": description} }
	info := detail("ErrorInfo", object{
		"reason": text("What is wrong, one of payments.errors.v1.ErrorReason without its prefix. It does not change."),
		"domain": object{"type": "string", "const": "tollmesh.dev"},
		"metadata": object{"type": "object", "additionalProperties": object{"type": "string"},
			"description": "The values that the message speaks of, by names that belong to the reason."},
	}, "reason", "domain", "metadata")
	info["description"] = "Why a call failed, for programs. Every error has one."
	fields := detail("BadRequest", object{"field_violations": object{"type": "array", "items": object{"type": "object",
		"properties": object{"field": text("Path of the field."), "description": text("What is wrong with it."), "reason": text("Empty.")},
		"required":   []any{"field", "description"}}}}, "field_violations")
	fields["description"] = "The fields at fault."
	retry := detail("RetryInfo", object{"retry_delay": text("How long to wait, such as `1s`.")}, "retry_delay")
	retry["description"] = "When the same call can help."
	found := maps.Clone(definitions)
	found["google.rpc.ErrorInfo"], found["google.rpc.BadRequest"], found["google.rpc.RetryInfo"] = info, fields, retry
	found[errorSchema] = object{
		"type": "object", "required": []any{"code", "message", "details"}, "description": "Every error.",
		"properties": object{
			"code":    object{"type": "integer", "format": "int32", "description": "The gRPC code, such as 5 for NOT_FOUND."},
			"message": text("What is wrong and what to do, for people."),
			"details": object{"type": "array", "description": "An ErrorInfo always, and what else is known.", "items": object{"anyOf": []any{
				object{"$ref": schemaPrefix + "google.rpc.ErrorInfo"}, object{"$ref": schemaPrefix + "google.rpc.BadRequest"},
				object{"$ref": schemaPrefix + "google.rpc.RetryInfo"},
			}}},
		},
	}
	return found
}

// rewrite says what is said in another way since v2: references, and bytes.
func rewrite(value any) any {
	switch value := value.(type) {
	case object:
		out := object{}
		for name, member := range value {
			if name == "example" { // content of callers, not a schema
				out[name] = member
				continue
			}
			out[name] = rewrite(member)
		}
		if target, ok := out["$ref"].(string); ok {
			out["$ref"] = strings.Replace(target, definitionPrefix, schemaPrefix, 1)
			delete(out, "type") // said by what it refers to
		}
		if out["format"] == "byte" && out["type"] == "string" {
			delete(out, "format")
			out["contentEncoding"] = "base64"
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, member := range value {
			out[i] = rewrite(member)
		}
		return out
	}
	return value
}

// dropUnused leaves out what nothing leads to: the standard plugin describes the wrappers that `response_body` takes off.
func dropUnused(description object) {
	components := members(description, "components")
	used := map[string]bool{}
	waiting := []any{description["paths"]}
	for len(waiting) > 0 {
		next := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		switch next := next.(type) {
		case []any:
			waiting = append(waiting, next...)
		case object:
			if target, ok := next["$ref"].(string); ok && !used[target] {
				used[target] = true
				if parts := strings.SplitN(strings.TrimPrefix(target, "#/components/"), "/", 2); len(parts) == 2 {
					waiting = append(waiting, members(components, parts[0])[parts[1]])
				}
			}
			waiting = slices.AppendSeq(waiting, maps.Values(next))
		}
	}
	for _, kind := range []string{"schemas", "responses", "headers", "parameters"} {
		for name := range members(components, kind) {
			if !used["#/components/"+kind+"/"+name] {
				delete(members(components, kind), name)
			}
		}
	}
}
