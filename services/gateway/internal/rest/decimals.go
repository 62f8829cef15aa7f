package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tollmesh.dev/gen/go/buf/validate"
)

const (
	// digitsMax is how many significant digits every JSON writer and reader gets across unchanged.
	digitsMax = 15
	// depthMax bounds the nesting of a body.
	depthMax = 64
	// valuesMax bounds the values of a body: read into messages, each takes a hundred times the two bytes that it may
	// be written with.
	valuesMax = 1_000_000
	// minorUnits is the field of all amounts.
	minorUnits = protoreflect.FullName("payments.type.v1.Money.minor_units")
)

// quoteDecimals puts quotes around JSON numbers where the schema wants a decimal string, so that
// `"quantity": 1.25` may be written for `"quantity": "1.25"`. No number is ever read as a float: its own
// text is what the service gets. Moments must be those of RFC 3339, which Go's own reader takes less strictly. All other
// bytes stay as they are.
func quoteDecimals(text []byte, message protoreflect.MessageDescriptor) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	walk := quoting{text: text, decoder: decoder}
	if err := walk.value(message, nil, 0); err != nil {
		return nil, err
	}
	if at := behindSpace(text, int(decoder.InputOffset())); at < len(text) {
		return nil, fmt.Errorf("not valid JSON: at byte %d, behind its end, it goes on", at+1)
	}
	return walk.apply(text), nil
}

// quoting walks a body beside its schema and notes the numbers to replace.
type quoting struct {
	text    []byte
	decoder *json.Decoder
	edits   []edit
	values  int
}

type edit struct {
	start, end int64
	text       string
}

// value reads one JSON value. message is the schema of its members, field the field it stands for; both
// are nil where the schema says nothing about decimals.
func (q *quoting) value(message protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, depth int) error {
	if depth > depthMax {
		return fmt.Errorf("nested deeper than %d", depthMax)
	}
	if q.values++; q.values > valuesMax {
		return fmt.Errorf("it contains more than %d values at all depths together; send them in several calls", valuesMax)
	}
	before := q.decoder.InputOffset()
	token, err := q.decoder.Token()
	if err != nil {
		return syntax(err)
	}
	switch token := token.(type) {
	case string:
		if field != nil && isMoment(field) {
			return q.moment(token, field, before)
		}
		return wholeMinorUnits(field, token)
	case json.Number:
		if err := wholeMinorUnits(field, string(token)); err != nil {
			return err
		}
		if field != nil && isDecimal(field) {
			end := q.decoder.InputOffset()
			q.edits = append(q.edits, edit{end - int64(len(token)), end, decimalText(string(token))})
		}
	case json.Delim:
		if token == '[' {
			return q.array(message, field, depth)
		}
		return q.object(message, field, depth)
	}
	return nil
}

// moment checks a moment, and writes it anew where Go's reader would not take what RFC 3339 lets be written.
func (q *quoting) moment(text string, field protoreflect.FieldDescriptor, before int64) error {
	read, err := rfc3339(text)
	if err != nil {
		return fmt.Errorf("%s: %w", field.JSONName(), err)
	}
	if read != text {
		start := before + int64(bytes.IndexByte(q.text[before:], '"'))
		q.edits = append(q.edits, edit{start, q.decoder.InputOffset(), read})
	}
	return nil
}

func (q *quoting) array(message protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, depth int) error {
	for items := 0; q.decoder.More(); items++ {
		// A list of the request itself, whose items would all be read before the mesh could count them.
		if items == itemsMax && field != nil && depth == 1 {
			return batchTooLarge()
		}
		if err := q.value(message, field, depth+1); err != nil {
			return err
		}
	}
	_, err := q.decoder.Token()
	return syntax(err)
}

func (q *quoting) object(message protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, depth int) error {
	for q.decoder.More() {
		token, err := q.decoder.Token()
		if err != nil {
			return syntax(err)
		}
		name, _ := token.(string)
		memberMessage, memberField := member(message, field, name)
		if err := q.value(memberMessage, memberField, depth+1); err != nil {
			return err
		}
	}
	_, err := q.decoder.Token()
	return syntax(err)
}

// apply writes the body with its edits.
func (q *quoting) apply(text []byte) []byte {
	if len(q.edits) == 0 {
		return text
	}
	var out bytes.Buffer
	out.Grow(len(text) + 4*len(q.edits))
	var done int64
	for _, edit := range q.edits {
		out.Write(text[done:edit.start])
		out.WriteByte('"')
		out.WriteString(edit.text)
		out.WriteByte('"')
		done = edit.end
	}
	out.Write(text[done:])
	return out.Bytes()
}

// member finds the schema of an object's member: a field of a message, or the values of a map.
func member(
	message protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, name string,
) (protoreflect.MessageDescriptor, protoreflect.FieldDescriptor) {
	if field != nil && field.IsMap() {
		if value := field.MapValue().Message(); value != nil {
			return ours(value), nil
		}
		return nil, field
	}
	if message == nil {
		return nil, nil
	}
	found := fieldNamed(message, name)
	if found == nil {
		return nil, nil
	}
	if found.IsMap() {
		return nil, found
	}
	return ours(found.Message()), found
}

// fieldNamed finds a field by either of its names, as JSON readers do.
func fieldNamed(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := message.Fields().ByJSONName(name); field != nil {
		return field
	}
	return message.Fields().ByTextName(name)
}

// ours drops messages whose JSON is not their fields (Struct, Timestamp, Any and their like).
func ours(message protoreflect.MessageDescriptor) protoreflect.MessageDescriptor {
	if message == nil || !strings.HasPrefix(string(message.FullName()), "payments.") {
		return nil
	}
	return message
}

// wholeMinorUnits refuses minor units with a point or an exponent. The JSON reader takes 5.000 for 5, where its
// sender may set thousands apart by a point.
func wholeMinorUnits(field protoreflect.FieldDescriptor, text string) error {
	if field == nil || field.FullName() != minorUnits || !strings.ContainsAny(text, ".eE") {
		return nil
	}
	return fmt.Errorf("minor_units must be a whole number, written with digits alone; 10.50 USD are 1050")
}

// decimals remembers the answer of isDecimal; the schemas do not change while we run.
var decimals sync.Map

// isDecimal tells whether the schema's rule for the field's text is that of a decimal number. The rule
// itself is asked, not its wording: it takes 0 and 1.5, and nothing that is no number.
func isDecimal(field protoreflect.FieldDescriptor) bool {
	if known, ok := decimals.Load(field.FullName()); ok {
		return known.(bool)
	}
	pattern, err := regexp.Compile(textRules(field).GetPattern())
	result := err == nil && pattern.MatchString("0") && pattern.MatchString("1.5") &&
		!pattern.MatchString("x") && !pattern.MatchString("1e5") && !pattern.MatchString("1.5.2")
	decimals.Store(field.FullName(), result)
	return result
}

// textRules are the rules for a field's text: its own, its items' or its map values'.
func textRules(field protoreflect.FieldDescriptor) *validate.StringRules {
	rules, ok := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	switch {
	case !ok:
		return nil
	case field.IsMap():
		return rules.GetMap().GetValues().GetString_()
	case field.IsList():
		return rules.GetRepeated().GetItems().GetString_()
	}
	return rules.GetString_()
}

// decimalText is what the service gets for a JSON number: its own text. A number with more significant
// digits than every JSON writer keeps may already differ from what its sender meant. It is given an
// exponent, the form that services refuse field by field, so that nothing else of its batch is lost.
func decimalText(number string) string {
	if significantDigits(number) > digitsMax && !strings.ContainsAny(number, "eE") {
		return number + "e0"
	}
	return number
}

func significantDigits(number string) int {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, number)
	return len(strings.Trim(digits, "0"))
}
