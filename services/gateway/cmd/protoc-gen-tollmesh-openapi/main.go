// Command protoc-gen-tollmesh-openapi is a plugin of buf: it runs protoc-gen-openapiv2 and adds what that one
// cannot know about this API — which calls answer 201 or 202, which bodies travel untouched, how callers
// authenticate, what rules the fields keep — and says it in OpenAPI 3.1, with examples of real calls. It writes the
// description twice, for readers and for the facade to serve.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"tollmesh.dev/gateway/internal/contract"
)

const (
	fileName = "tollmesh.openapi.json"
	// examplesFolder is seen from services/gateway, where this program runs.
	examplesFolder = "examples"
	embedder       = `// Package openapi holds the description of the REST facade.
package openapi

import _ "embed"

// Description is OpenAPI 3.1, as JSON.
//
//go:embed tollmesh.openapi.json
var Description []byte
`
)

// object is a JSON object whose members this program does not name.
type object = map[string]any

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "protoc-gen-tollmesh-openapi:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	input, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{}
	if err := proto.Unmarshal(input, request); err != nil {
		return err
	}
	// The rules' own file has no service, but it would give the description its title.
	request.FileToGenerate = slices.DeleteFunc(request.FileToGenerate, func(name string) bool {
		return !strings.HasPrefix(name, "payments/")
	})
	description, err := describe(request)
	if err != nil {
		return err
	}
	files, err := registry(request)
	if err != nil {
		return err
	}
	rules, err := newRules(files)
	if err != nil {
		return err
	}
	if err := complete(description, methods(files), rules); err != nil {
		return err
	}
	if err := describeDefinitions(description, files, rules); err != nil {
		return err
	}
	told, err := readExamples(examplesFolder)
	if err != nil {
		return err
	}
	newer, err := modern(description, methods(files), told)
	if err != nil {
		return err
	}
	return respond(out, newer)
}

// describe runs the standard plugin on the request.
func describe(request *pluginpb.CodeGeneratorRequest) (object, error) {
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	plugin := exec.Command("go", "tool", "protoc-gen-openapiv2")
	plugin.Stdin = bytes.NewReader(input)
	plugin.Stderr = os.Stderr
	output, err := plugin.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-openapiv2: %w", err)
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(output, response); err != nil {
		return nil, err
	}
	if response.GetError() != "" {
		return nil, errors.New(response.GetError())
	}
	if len(response.File) != 1 {
		return nil, fmt.Errorf("protoc-gen-openapiv2 wrote %d files; pass allow_merge=true", len(response.File))
	}
	var description object
	decoder := json.NewDecoder(strings.NewReader(response.File[0].GetContent()))
	decoder.UseNumber()
	return description, decoder.Decode(&description)
}

func registry(request *pluginpb.CodeGeneratorRequest) (*protoregistry.Files, error) {
	return protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: request.ProtoFile})
}

// methods are the RPCs by the operation id that the standard plugin gives them.
func methods(files *protoregistry.Files) map[string]protoreflect.MethodDescriptor {
	found := map[string]protoreflect.MethodDescriptor{}
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				found[fmt.Sprintf("%s_%s", service.Name(), method.Name())] = method
			}
		}
		return true
	})
	return found
}

// complete adds to the description what only this API knows.
func complete(description object, methods map[string]protoreflect.MethodDescriptor, rules *rules) error {
	description["info"] = object{
		"title":       "Tollmesh",
		"version":     "v1",
		"description": "The REST facade of Tollmesh. Every error is a google.rpc.Status whose details hold an ErrorInfo.",
		"license":     object{"name": "Apache-2.0"},
	}
	description["securityDefinitions"] = object{"key": object{
		"type": "apiKey", "in": "header", "name": "Authorization",
		"description": "`Bearer <API key>`",
	}}
	description["security"] = []any{object{"key": []any{}}}
	for path, item := range members(description, "paths") {
		for verb, operation := range item.(object) {
			operation := operation.(object)
			id, _ := operation["operationId"].(string)
			// A further route of an RPC is numbered from 2.
			method, known := methods[strings.TrimRight(id, "0123456789")]
			if !known {
				return fmt.Errorf("%s %s: no RPC is called %q", verb, path, id)
			}
			describeSuccess(operation, method)
			describeBody(operation, method)
			describeMediaTypes(operation, method)
			if err := describeParameters(operation, method, rules); err != nil {
				return err
			}
		}
	}
	plainPaths(description)
	return nil
}

// plainPaths calls a path's variable by the last part of its name, `{config.merchant_id}` by `{merchant_id}`: tools
// take a dot in a path's variable for an attribute, and one resource has one path.
func plainPaths(description object) {
	plain := object{}
	for path, item := range members(description, "paths") {
		item := item.(object)
		for dotted, last := range dottedVariables(path) {
			path = strings.ReplaceAll(path, "{"+dotted+"}", "{"+last+"}")
			for _, operation := range item {
				rename(operation.(object), dotted, last)
			}
		}
		merged, _ := plain[path].(object)
		if merged == nil {
			merged = object{}
			plain[path] = merged
		}
		maps.Copy(merged, item)
	}
	description["paths"] = plain
}

var pathVariable = regexp.MustCompile(`\{([^}]*\.([^}.]+))\}`)

// dottedVariables gives the last part of each dotted variable of a path.
func dottedVariables(path string) map[string]string {
	found := map[string]string{}
	for _, match := range pathVariable.FindAllStringSubmatch(path, -1) {
		found[match[1]] = match[2]
	}
	return found
}

func rename(operation object, from, to string) {
	parameters, _ := operation["parameters"].([]any)
	for _, parameter := range parameters {
		if parameter := parameter.(object); parameter["in"] == "path" && parameter["name"] == from {
			parameter["name"] = to
		}
	}
}

func members(of object, name string) object {
	found, _ := of[name].(object)
	return found
}

// describeSuccess moves the answer under the status that the facade gives it.
func describeSuccess(operation object, method protoreflect.MethodDescriptor) {
	code := contract.SuccessStatus(method)
	responses := members(operation, "responses")
	success, found := responses["200"].(object)
	if code == http.StatusOK || !found {
		return
	}
	delete(responses, "200")
	responses[strconv.Itoa(code)] = success
	if code == http.StatusCreated {
		success["headers"] = object{"Location": object{
			"type": "string", "description": "Path of the created resource.",
		}}
	}
}

// describeBody says of a body that travels untouched that it may be anything.
func describeBody(operation object, method protoreflect.MethodDescriptor) {
	if contract.RawField(method.Input()) == nil {
		return
	}
	parameters, _ := operation["parameters"].([]any)
	for _, parameter := range parameters {
		if parameter := parameter.(object); parameter["in"] == "body" {
			parameter["schema"] = object{}
			parameter["description"] = "The request as it is, in whatever form the sender has it: it travels " +
				"to the service byte for byte, malformed or not."
		}
	}
}

// describeMediaTypes says where CloudEvents are taken, and where they can be had.
func describeMediaTypes(operation object, method protoreflect.MethodDescriptor) {
	if contentType, _ := contract.HeaderFields(method.Input()); contentType != nil {
		operation["consumes"] = []any{"application/cloudevents+json", contract.BatchMediaType, "application/json"}
	}
	if contract.BatchField(method) != nil {
		operation["produces"] = []any{"application/json", contract.BatchMediaType}
	}
}

// respond writes the description where readers look for it and where the facade embeds it.
func respond(out io.Writer, description object) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(description); err != nil {
		return err
	}
	file := func(name, content string) *pluginpb.CodeGeneratorResponse_File {
		return &pluginpb.CodeGeneratorResponse_File{Name: &name, Content: &content}
	}
	output, err := proto.Marshal(&pluginpb.CodeGeneratorResponse{
		SupportedFeatures: proto.Uint64(uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)),
		File: []*pluginpb.CodeGeneratorResponse_File{
			file("openapi/"+fileName, text.String()),
			file("go/openapi/"+fileName, text.String()),
			file("go/openapi/openapi.go", embedder),
		},
	})
	if err != nil {
		return err
	}
	_, err = out.Write(output)
	return err
}
