package rest

import (
	"encoding/json"
	"strings"
	"testing"

	configv1 "tollmesh.dev/gen/go/payments/config/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
	pricingv1 "tollmesh.dev/gen/go/payments/pricing/v1"
)

func TestQuoteDecimals(t *testing.T) {
	event := (&meteringv1.UsageEvent{}).ProtoReflect().Descriptor()
	for body, want := range map[string]string{
		`{"quantity": 1.250}`:              `{"quantity": "1.250"}`,
		`{"quantity":0 , "sku":"a"}`:       `{"quantity":"0" , "sku":"a"}`,
		`{"quantity": "1.25"}`:             `{"quantity": "1.25"}`,
		`{"quantity": 123456789012345}`:    `{"quantity": "123456789012345"}`,
		`{"quantity": 100000000000000000}`: `{"quantity": "100000000000000000"}`,
		// Forms that a service refuses, event by event: too many digits to be sure of, exponents.
		`{"quantity": 1234567890123456}`:    `{"quantity": "1234567890123456e0"}`,
		`{"quantity": 0.10000000000000001}`: `{"quantity": "0.10000000000000001e0"}`,
		`{"quantity": 1E5}`:                 `{"quantity": "1E5"}`,
		`{"quantity": -2}`:                  `{"quantity": "-2"}`,
		// Not decimals in the schema: left for the JSON reader to refuse.
		`{"org_id": 5}`:                  `{"org_id": 5}`,
		`{"metadata": {"quantity": 5}}`:  `{"metadata": {"quantity": 5}}`,
		`{"unknown": {"quantity": [5]}}`: `{"unknown": {"quantity": [5]}}`,
		`{"quantity": null}`:             `{"quantity": null}`,
		`7`:                              `7`,
		"\t{\"quantity\" :\n 3\n}  ":     "\t{\"quantity\" :\n \"3\"\n}  ",
		`{"sku": "ü", "quantity": 3}`:    `{"sku": "ü", "quantity": "3"}`,
	} {
		got, err := quoteDecimals([]byte(body), event)
		if err != nil || string(got) != want {
			t.Errorf("%s became %s (%v), not %s", body, got, err, want)
		}
	}
}

func TestQuoteDecimalsDeepInside(t *testing.T) {
	price := (&pricingv1.EvaluatePriceRequest{}).ProtoReflect().Descriptor()
	body := `{"price": {"graduated": {"tiers": [{"up_to": 10, "unit_amount": 0.5}, {"unitAmount": 1}]}}, "input": {"quantity": 3}}`
	want := `{"price": {"graduated": {"tiers": [{"up_to": "10", "unit_amount": "0.5"}, {"unitAmount": "1"}]}}, "input": {"quantity": "3"}}`
	if got, err := quoteDecimals([]byte(body), price); err != nil || string(got) != want {
		t.Errorf("%s (%v)", got, err)
	}
}

func TestQuoteDecimalsRefusesWhatIsNoJSON(t *testing.T) {
	event := (&meteringv1.UsageEvent{}).ProtoReflect().Descriptor()
	for _, body := range []string{
		``, `{`, `{"quantity": }`, `{"quantity": 1e}`, `{"quantity": NaN}`, `{"quantity" 1}`, `[1`,
		strings.Repeat("[", 100) + strings.Repeat("]", 100),
	} {
		if got, err := quoteDecimals([]byte(body), event); err == nil {
			t.Errorf("%s became %s", body, got)
		}
	}
}

func TestMinorUnitsAreWrittenWithDigitsAlone(t *testing.T) {
	config := (&configv1.MerchantConfig{}).ProtoReflect().Descriptor()
	body := func(units string) []byte {
		return []byte(`{"methods": [{"method": "card", "max_amount": {"currency_code": "EUR", "minorUnits": ` + units + `}}]}`)
	}
	for _, units := range []string{`5.000`, `"5.000"`, `1.0`, `1e3`, `"1E3"`, `5000e-3`} {
		if got, err := quoteDecimals(body(units), config); err == nil {
			t.Errorf("%s became %s", units, got)
		} else if !strings.Contains(err.Error(), "minor_units") {
			t.Errorf("%s: %v", units, err)
		}
	}
	for _, units := range []string{`5000`, `"5000"`, `-5`, `"-5"`, `null`} {
		if got, err := quoteDecimals(body(units), config); err != nil || string(got) != string(body(units)) {
			t.Errorf("%s became %s (%v)", units, got, err)
		}
	}
}

// A number's text arrives as it was written, or quoted with an exponent, whatever its digits.
func FuzzDecimalText(f *testing.F) {
	for _, seed := range []string{"0", "-1.5", "1e400", "9007199254740993", "1234567890.1234567"} {
		f.Add(seed)
	}
	event := (&meteringv1.UsageEvent{}).ProtoReflect().Descriptor()
	f.Fuzz(func(t *testing.T, number string) {
		if !json.Valid([]byte(number)) || strings.Trim(number, "+-.eE0123456789") != "" {
			return // no number
		}
		got, err := quoteDecimals([]byte(`{"quantity":`+number+`}`), event)
		if err != nil {
			t.Fatal(err)
		}
		plain, marked := `{"quantity":"`+number+`"}`, `{"quantity":"`+number+`e0"}`
		if string(got) != plain && string(got) != marked {
			t.Errorf("%q became %s", number, got)
		}
	})
}
