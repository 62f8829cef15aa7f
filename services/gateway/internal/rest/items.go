package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decodeItems reads a batch that does not read as a whole item by item, where its service judges them so and has a place
// for why one could not be read: a map beside the list, by index. Any other fault is that of the whole.
func (c *codec) decodeItems(text []byte, batch proto.Message, whole error) error {
	message := batch.ProtoReflect()
	list, why := itemsOf(message.Descriptor())
	if list == nil {
		return whole
	}
	array := arrayOf(text, list)
	if array == nil {
		return whole
	}
	var fault decodeFault
	items, err := split(array)
	if errors.As(err, &fault) {
		return whole
	}
	if err != nil {
		return err
	}
	proto.Reset(batch)
	for index, item := range items {
		element := message.NewField(list).List().NewElement()
		if err := c.decodeMessage(item, element.Message().Interface()); errors.As(err, &fault) {
			c.decodeReadable(item, element.Message())
			told := protoreflect.ValueOfString(shortened(fault[0].description, unreadableMax))
			message.Mutable(why).Map().Set(protoreflect.ValueOfInt32(int32(index)).MapKey(), told)
		} else if err != nil {
			return err
		}
		message.Mutable(list).List().Append(element)
	}
	return nil
}

// itemsOf are the list of a batch, and its field for what does not read of it; nil when it has none.
func itemsOf(batch protoreflect.MessageDescriptor) (list, why protoreflect.FieldDescriptor) {
	why = batch.Fields().ByName(unreadableField)
	if why == nil || !why.IsMap() {
		return nil, nil
	}
	for i := range batch.Fields().Len() {
		if field := batch.Fields().Get(i); field.IsList() && field.Message() != nil {
			return field, why
		}
	}
	return nil, nil
}

// arrayOf is the text of a list in a body that holds nothing else; nil when it is another body.
func arrayOf(text []byte, list protoreflect.FieldDescriptor) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil
	}
	if name, err := decoder.Token(); err != nil || name != string(list.Name()) && name != list.JSONName() {
		return nil
	}
	at := behindSpace(text, int(decoder.InputOffset()))
	if at == len(text) || text[at] != ':' {
		return nil
	}
	at = behindSpace(text, at+1)
	if at == len(text) || text[at] != '[' {
		return nil
	}
	end := behindValue(text, at)
	if rest := behindSpace(text, end); rest == len(text) || text[rest] != '}' || behindSpace(text, rest+1) < len(text) {
		return nil
	}
	return text[at:end]
}

// decodeReadable reads those members of an item that read by themselves. A flag that does not counts as set: whether what
// follows hangs on this item must not be guessed.
func (c *codec) decodeReadable(item []byte, message protoreflect.Message) {
	proto.Reset(message.Interface())
	wholly := eachMember(item, func(name string, value []byte) {
		field := message.Descriptor().Fields().ByJSONName(name)
		if field == nil {
			field = message.Descriptor().Fields().ByTextName(name)
		}
		if field == nil {
			return
		}
		alone := message.New()
		err := c.decodeMessage(fmt.Appendf(nil, "{%q: %s}", field.Name(), value), alone.Interface())
		switch {
		case err == nil:
			proto.Merge(message.Interface(), alone.Interface())
		case isFlag(field):
			message.Set(field, protoreflect.ValueOfBool(true))
		}
	})
	if wholly {
		return
	}
	for i := range message.Descriptor().Fields().Len() {
		if field := message.Descriptor().Fields().Get(i); isFlag(field) {
			message.Set(field, protoreflect.ValueOfBool(true))
		}
	}
}

func isFlag(field protoreflect.FieldDescriptor) bool {
	return field.Kind() == protoreflect.BoolKind && !field.IsList()
}

// eachMember visits the members of an object up to where it is no JSON any more; false when it did not get to its end.
func eachMember(object []byte, visit func(name string, value []byte)) bool {
	decoder := json.NewDecoder(bytes.NewReader(object))
	start, err := decoder.Token()
	if err != nil {
		return false
	}
	if start != json.Delim('{') {
		return true // it has none
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return false
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return false
		}
		visit(name.(string), value)
	}
	_, err = decoder.Token()
	return err == nil
}
