package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

const ruleExtension = "buf.validate.field"

// rules reads the protovalidate rules of fields out of the schemas themselves: this program helps to generate
// the code that could otherwise be asked.
type rules struct {
	types *dynamicpb.Types
}

func newRules(files *protoregistry.Files) (*rules, error) {
	if _, err := files.FindDescriptorByName(ruleExtension); err != nil {
		return nil, fmt.Errorf("%s: %w", ruleExtension, err)
	}
	return &rules{dynamicpb.NewTypes(files)}, nil
}

// of gives the rules of a field, or nil.
func (r *rules) of(field protoreflect.FieldDescriptor) (protoreflect.Message, error) {
	// The options were parsed before anything knew the extension: parse them again.
	encoded, err := proto.Marshal(field.Options())
	if err != nil {
		return nil, err
	}
	options := field.Options().ProtoReflect().New().Interface()
	if err := (proto.UnmarshalOptions{Resolver: r.types}).Unmarshal(encoded, options); err != nil {
		return nil, err
	}
	// Looked for by name: the extension extends the schemas' own FieldOptions, not those linked here.
	var found protoreflect.Message
	options.ProtoReflect().Range(func(option protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if option.FullName() == ruleExtension {
			found = value.Message()
		}
		return found == nil
	})
	return found, nil
}

// describe adds to a field's schema the rules that OpenAPI can say.
func (r *rules) describe(schema object, field protoreflect.FieldDescriptor) error {
	rules, err := r.of(field)
	if err != nil {
		return fmt.Errorf("%s: %w", field.FullName(), err)
	}
	switch {
	case field.IsMap():
		limit(schema, part(rules, "map"), map[string]string{"minProperties": "min_pairs", "maxProperties": "max_pairs"})
		describeText(members(schema, "additionalProperties"), part(part(rules, "map"), "values"))
	case field.IsList():
		limit(schema, part(rules, "repeated"), map[string]string{"minItems": "min_items", "maxItems": "max_items"})
		describeText(members(schema, "items"), part(part(rules, "repeated"), "items"))
	case field.Kind() == protoreflect.StringKind:
		describeText(schema, rules)
	case field.Kind() == protoreflect.Int32Kind:
		limit(schema, part(rules, "int32"), map[string]string{"minimum": "gte", "maximum": "lte"})
	}
	return nil
}

// require tells whether a body must have a field: by its own rule, or because its text must not be empty. Not
// request_id, which may come as header Idempotency-Key.
func (r *rules) require(field protoreflect.FieldDescriptor) (bool, error) {
	rules, err := r.of(field)
	if err != nil || rules == nil || field.Name() == "request_id" {
		return false, err
	}
	if required := value(rules, "required"); required.IsValid() && required.Bool() {
		return true, nil
	}
	// What tells absent from empty may be absent: its rule is of what is sent.
	if field.Kind() != protoreflect.StringKind || field.IsList() || field.HasPresence() || value(rules, "ignore").IsValid() {
		return false, nil
	}
	text := part(rules, "string")
	if value(text, "uuid").IsValid() || value(text, "min_len").IsValid() {
		return true, nil
	}
	pattern := value(text, "pattern")
	if !pattern.IsValid() {
		return false, nil
	}
	empty, err := regexp.MatchString(pattern.String(), "")
	return !empty, err
}

// describeText adds the rules for a text.
func describeText(schema object, rules protoreflect.Message) {
	if schema["type"] != "string" || rules == nil {
		return
	}
	text := part(rules, "string")
	limit(schema, text, map[string]string{"minLength": "min_len", "maxLength": "max_len"})
	if pattern := value(text, "pattern"); pattern.IsValid() {
		schema["pattern"] = optionalText(pattern.String(), rules)
	}
	if uuid := value(text, "uuid"); uuid.IsValid() && uuid.Bool() {
		schema["format"] = "uuid"
	}
}

// optionalText lets a pattern take the empty text where the rule does not look at it.
func optionalText(pattern string, rules protoreflect.Message) string {
	ignore := value(rules, "ignore")
	if ignore.IsValid() && ignore.Enum() == 1 { // IGNORE_IF_ZERO_VALUE
		return "^$|" + pattern
	}
	return pattern
}

// limit copies numbers from rules to the names that OpenAPI has for them.
func limit(schema object, rules protoreflect.Message, names map[string]string) {
	for name, rule := range names {
		found := value(rules, protoreflect.Name(rule))
		if !found.IsValid() {
			continue
		}
		switch number := found.Interface().(type) {
		case uint64:
			schema[name] = json.Number(strconv.FormatUint(number, 10))
		case int32:
			schema[name] = json.Number(strconv.FormatInt(int64(number), 10))
		}
	}
}

// part is a set message field, or nil.
func part(message protoreflect.Message, name protoreflect.Name) protoreflect.Message {
	if found := value(message, name); found.IsValid() {
		return found.Message()
	}
	return nil
}

// value is a set field, or the invalid value.
func value(message protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	if message == nil {
		return protoreflect.Value{}
	}
	field := message.Descriptor().Fields().ByName(name)
	if field == nil || !message.Has(field) {
		return protoreflect.Value{}
	}
	return message.Get(field)
}
