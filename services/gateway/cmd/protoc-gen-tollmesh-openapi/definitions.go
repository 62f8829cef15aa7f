package main

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const definitionPrefix = "#/definitions/"

// describeDefinitions adds to the messages what their rules say.
//
// Messages that only callers send are described strictly. In those that are answers too an empty text stands
// for an absent one, so their rules are softened by that. Of those that only answer it is said what is always there.
func describeDefinitions(description object, files *protoregistry.Files, rules *rules) error {
	definitions := members(description, "definitions")
	answered := reachable(definitions, answers(description))
	sent := reachable(definitions, requests(description))
	for name, definition := range definitions {
		definition := definition.(object)
		message := messageOf(files, name)
		if message == nil || definition["type"] != "object" {
			continue
		}
		if err := describeFields(definition, message, rules); err != nil {
			return err
		}
		if answered[name] {
			soften(definition)
			if !sent[name] {
				promise(definition, message)
			}
		} else {
			definition["additionalProperties"] = false
		}
	}
	return nil
}

// messageOf finds our message behind a definition's name: its own, or the body of an RPC that takes the rest of
// its request from the path.
func messageOf(files *protoregistry.Files, name string) protoreflect.MessageDescriptor {
	if !strings.HasPrefix(name, "payments.") {
		return nil
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		found, err = files.FindDescriptorByName(protoreflect.FullName(strings.TrimSuffix(name, "Body")))
	}
	if err != nil {
		return nil
	}
	switch found := found.(type) {
	case protoreflect.MessageDescriptor:
		return found
	case protoreflect.MethodDescriptor:
		return found.Input()
	}
	return nil
}

func describeFields(definition object, message protoreflect.MessageDescriptor, rules *rules) error {
	properties := members(definition, "properties")
	var required []string
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			continue
		}
		schema := properties[name].(object)
		if err := rules.describe(schema, field); err != nil {
			return err
		}
		if alias := field.JSONName(); alias != camel(name) {
			other := maps.Clone(schema)
			other["description"] = "The same as " + name + "; give one of them."
			properties[alias] = other
		} else if needed, err := rules.require(field); err != nil {
			return err
		} else if needed {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		definition["required"] = required
	}
	return nil
}

// camel is the JSON name that a field has by default.
func camel(name string) string {
	var out strings.Builder
	for i, part := range strings.Split(name, "_") {
		if i > 0 && part != "" {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		out.WriteString(part)
	}
	return out.String()
}

// soften lets every text of a message be empty.
func soften(definition object) {
	delete(definition, "required")
	for _, property := range members(definition, "properties") {
		property := property.(object)
		delete(property, "minLength")
		delete(property, "minItems")
		delete(property, "minProperties")
		if property["format"] == "uuid" {
			delete(property, "format")
		}
		if pattern, ok := property["pattern"].(string); ok && !strings.HasPrefix(pattern, "^$|") {
			property["pattern"] = "^$|" + pattern
		}
	}
}

// promise says which fields an answer always has: those that are written also when they are zero or empty.
func promise(definition object, message protoreflect.MessageDescriptor) {
	var always []string
	for name := range members(definition, "properties") {
		field := message.Fields().ByName(protoreflect.Name(name))
		if field != nil && !field.HasPresence() {
			always = append(always, name)
		}
	}
	if slices.Sort(always); len(always) > 0 {
		definition["required"] = always
	}
}

// requests are the parameters of all calls.
func requests(description object) []any {
	var found []any
	for _, item := range members(description, "paths") {
		for _, operation := range item.(object) {
			found = append(found, operation.(object)["parameters"])
		}
	}
	return found
}

// answers are the schemas of all answers.
func answers(description object) []any {
	var found []any
	for _, item := range members(description, "paths") {
		for _, operation := range item.(object) {
			for _, response := range members(operation.(object), "responses") {
				found = append(found, response)
			}
		}
	}
	return found
}

// reachable names the definitions that some schemas lead to.
func reachable(definitions object, from []any) map[string]bool {
	seen := map[string]bool{}
	for len(from) > 0 {
		next := from[len(from)-1]
		from = from[:len(from)-1]
		switch next := next.(type) {
		case []any:
			from = append(from, next...)
		case object:
			if reference, ok := next["$ref"].(string); ok {
				name := strings.TrimPrefix(reference, definitionPrefix)
				if !seen[name] {
					seen[name] = true
					from = append(from, definitions[name])
				}
			}
			from = slices.AppendSeq(from, maps.Values(next))
		}
	}
	return seen
}

// describeParameters adds the rules of what travels in path and query.
func describeParameters(operation object, method protoreflect.MethodDescriptor, rules *rules) error {
	parameters, _ := operation["parameters"].([]any)
	for _, parameter := range parameters {
		parameter := parameter.(object)
		name, _ := parameter["name"].(string)
		if parameter["in"] == "body" {
			continue
		}
		if field := fieldAt(method.Input(), name); field != nil {
			if err := rules.describe(parameter, field); err != nil {
				return err
			}
		}
	}
	return nil
}

// fieldAt follows a dotted path into a message.
func fieldAt(message protoreflect.MessageDescriptor, path string) protoreflect.FieldDescriptor {
	var field protoreflect.FieldDescriptor
	for _, part := range strings.Split(path, ".") {
		if message == nil {
			return nil
		}
		if field = message.Fields().ByName(protoreflect.Name(part)); field == nil {
			return nil
		}
		message = field.Message()
	}
	return field
}
