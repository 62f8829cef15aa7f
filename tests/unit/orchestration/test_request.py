"""The permissive parser: total over any bytes, and exact about what it takes for certain."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import example, given
from hypothesis import strategies as st
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.app import payments as app
from services.orchestration.domain import issues, tree
from services.orchestration.domain.amounts import Reader
from services.orchestration.domain.issues import ISSUES_MAX, Findings, Severity
from services.orchestration.domain.request import Context, interpret
from services.orchestration.domain.tree import Number
from services.orchestration.messages import incoming
from services.orchestration.store import codec
from services.runtime.context import CallContext, acting
from services.runtime.money import EXPONENTS, MINOR_UNITS_MAX, Money, format_money

CLEAN = {
    "merchant_id": "acme",
    "order_id": "o-1",
    "person_id": "p-1",
    "currency": "USD",
    "amount": "12.50",
}


def read(data: bytes) -> Context:
    """Read bytes the way the servicer does."""
    findings = Findings()
    return interpret(tree.read(data, findings), findings)


def read_json(**fields: Any) -> Context:
    """Read a request that is clean but for `fields`; None leaves a field out."""
    merged = {name: value for name, value in (CLEAN | fields).items() if value is not None}
    return read(json.dumps(merged).encode())


def codes(context: Context, *severities: Severity) -> list[str]:
    """Codes of the findings of some severities, all by default."""
    return [i.code for i in context.issues if not severities or i.severity in severities]


def check(context: Context) -> None:
    """What holds for every reading, whatever came in."""
    assert len(context.issues) <= ISSUES_MAX
    assert context.refused == (Severity.ERROR in {issue.severity for issue in context.issues})
    if not context.refused:
        assert 0 < context.amount_minor <= MINOR_UNITS_MAX
        assert context.currency in EXPONENTS
        assert context.merchant_id
    stored = json.dumps(codec.context_to_json(context))
    assert "\\u0000" not in stored
    stored.encode("utf-8")
    restored = codec.context_from_json(json.loads(stored))
    assert codec.context_to_json(restored) == codec.context_to_json(context)


def test_a_finding_that_finds_no_place_is_not_even_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def sanitized(text: str, characters_max: int) -> str:
        written.append(text)
        return text[:characters_max]

    monkeypatch.setattr(issues, "sanitized", sanitized)
    findings = Findings()
    for number in range(ISSUES_MAX):
        findings.warn(f"w{number}", "W", "odd")
    refused_before = findings.refused
    for number in range(1000):
        findings.refuse(f"e{number}", "E", "in doubt")
    assert (refused_before, findings.refused) == (False, True)
    # The first refusal took the last place.
    assert [issue.code for issue in findings.issues] == ["W"] * (ISSUES_MAX - 1) + ["E"]
    assert findings.issues[-1].field == "e0"
    assert len(written) == 2 * (ISSUES_MAX + 1)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "merchant_id",
        "MerchantID",
        "amount",
        "amount_minor",
        "amount_cents",
        "currency",
        "method",
        "token",
        "payment_methods",
        "metadata",
        "order_id",
        "person_id",
        "org_id",
        "idempotency_key",
        "card_number",
        "x",
    ]
)


@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf{}")
@example(b'{"amount": 1e400}')
@example(b'{"a":' * 5000)
@example(b'"\\')
@example(b'{"idempotency_key": "\\ud800", "metadata": {"\\u0000": "\\ud800"}}')
@example(b"-" + b"9" * 100_000)
def test_any_bytes_are_read(data: bytes) -> None:
    check(read(data))


@given(st.lists(st.tuples(NAMES, JSON_VALUES), max_size=8))
def test_any_json_is_read(pairs: list[tuple[str, Any]]) -> None:
    # Built by hand, so that keys may repeat.
    text = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    check(read(f"{{{text}}}".encode("utf-8", errors="surrogatepass")))


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6))
def test_clean_requests_with_one_messy_field_are_read(fields: dict[str, Any]) -> None:
    check(read(json.dumps(CLEAN | fields).encode()))


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6))
def test_any_struct_is_read(fields: dict[str, Any]) -> None:
    struct = struct_pb2.Struct()
    try:
        struct.update(fields)
    except (
        ValueError,
        UnicodeError,
    ):  # integers beyond doubles, lone surrogates: no Struct holds them
        return
    request = service_pb.CreatePaymentRequest(external_request=struct)
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request)
    check(interpret(found.tree, found.findings))


@given(st.integers(1, MINOR_UNITS_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_what_is_written_as_documented_is_read_exactly(minor: int, currency: str) -> None:
    text = format_money(Money(currency, minor))
    by_text = read_json(amount=text, currency=currency)
    assert (by_text.amount_minor, by_text.issues) == (minor, ())
    as_text = read_json(amount=None, amount_minor=str(minor), currency=currency)
    assert as_text.amount_minor == minor
    money = {"currency_code": currency, "minor_units": str(minor)}
    assert read_json(amount=money, currency=currency).amount_minor == minor


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_float_is_read_as_another_amount(value: float) -> None:
    """Whatever is charged for a float is the decimal that its shortest text spells."""
    context = read_json(amount=value)
    if not context.refused and codes(context) == ["AMOUNT_IS_FLOAT"]:
        assert Decimal(context.amount_minor) / 100 == Decimal(repr(value))


@pytest.mark.parametrize(
    ("amount", "minor", "code"),
    [
        ("12.50", 1250, None),
        ("12.5", 1250, None),
        ("12", 1200, None),
        (" 12.50 ", 1250, "SPACE_AROUND_VALUE"),
        ("$12.50", 1250, "CURRENCY_SIGN"),
        ("12.50 USD", 1250, "CURRENCY_SIGN"),
        ("US$ 12.50", 1250, "CURRENCY_SIGN"),
        ("1,250.00", 125000, "AMOUNT_GROUPED"),
        (1250, 1250, "AMOUNT_IN_MINOR_UNITS"),
        (12.34, 1234, "AMOUNT_IS_FLOAT"),
    ],
)
def test_certain_amounts(amount: object, minor: int, code: str | None) -> None:
    context = read_json(amount=amount)
    assert (context.amount_minor, context.refused) == (minor, False)
    assert codes(context) == ([code] if code else [])


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("12,50", "AMOUNT_UNREADABLE"),
        ("0,012.50", "AMOUNT_UNREADABLE"),
        ("000,012.50", "AMOUNT_UNREADABLE"),
        ("1,250", "AMOUNT_UNREADABLE"),
        ("1.250,00", "AMOUNT_UNREADABLE"),
        ("twelve", "AMOUNT_UNREADABLE"),
        ("", "AMOUNT_UNREADABLE"),
        ("١٢", "AMOUNT_UNREADABLE"),
        ("1e2", "AMOUNT_UNREADABLE"),
        ("$", "AMOUNT_UNREADABLE"),
        ("€12.50", "CURRENCY_CONFLICT"),
        ("12.505", "AMOUNT_AMBIGUOUS"),
        ("12.500", "AMOUNT_AMBIGUOUS"),
        ("$1.080", "AMOUNT_AMBIGUOUS"),
        ("1.080 USD", "AMOUNT_AMBIGUOUS"),
        (" 1.080 ", "AMOUNT_AMBIGUOUS"),
        ("1,250.000", "AMOUNT_AMBIGUOUS"),
        ("12.5000", "AMOUNT_PRECISION"),
        ("1.00000000000000000000000", "AMOUNT_PRECISION"),
        ("9" * 5000, "AMOUNT_OUT_OF_RANGE"),
        ("-1.00", "AMOUNT_NOT_POSITIVE"),
        ("0.00", "AMOUNT_NOT_POSITIVE"),
        ("99999999999999999999", "AMOUNT_OUT_OF_RANGE"),
        (0, "AMOUNT_NOT_POSITIVE"),
        (-5, "AMOUNT_NOT_POSITIVE"),
        (12.505, "AMOUNT_AMBIGUOUS"),
        (12.5051, "AMOUNT_PRECISION"),
        (90071992547409.93, "AMOUNT_AMBIGUOUS"),
        (9007199254740993, "AMOUNT_AMBIGUOUS"),
        (0.1 + 0.2, "AMOUNT_AMBIGUOUS"),
        (1250.0, "AMOUNT_AMBIGUOUS"),
        (float("nan"), "AMOUNT_NOT_A_NUMBER"),
        (float("inf"), "AMOUNT_NOT_A_NUMBER"),
        (True, "WRONG_TYPE"),
        (["12.50"], "WRONG_TYPE"),
        ({"currency_code": "EUR", "minor_units": 1}, "CURRENCY_CONFLICT"),
        ({"value": 1}, "AMOUNT_UNREADABLE"),
        ({"currency_code": "USD", "minor_units": 1, "scale": 3}, "AMOUNT_UNREADABLE"),
        ({"currency_code": "USD", "minor_units": None}, "AMOUNT_UNREADABLE"),
        ({"currencyCode": "USD", "minorUnits": "1.080"}, "AMOUNT_AMBIGUOUS"),
        ({}, "AMOUNT_UNREADABLE"),
        (None, "MISSING"),
    ],
)
def test_doubtful_amounts_are_refused(amount: object, code: str) -> None:
    context = read_json(amount=amount)
    assert context.refused
    assert context.amount_minor == 0
    assert codes(context, Severity.ERROR) == [code]


@pytest.mark.parametrize(
    ("currency", "amount", "code"),
    [
        ("EUR", "1.080", "AMOUNT_AMBIGUOUS"),
        ("JPY", "1.000", "AMOUNT_AMBIGUOUS"),
        ("VND", "250.000", "AMOUNT_AMBIGUOUS"),
        ("IDR", "15.000", "AMOUNT_AMBIGUOUS"),
        ("CLP", "$9.990", "CURRENCY_CONFLICT"),
        ("CLP", "9.990", "AMOUNT_AMBIGUOUS"),
        ("JPY", "¥1.000", "AMOUNT_AMBIGUOUS"),
        ("JPY", "1.0", "AMOUNT_PRECISION"),
        ("JPY", "1000.00", "AMOUNT_PRECISION"),
        ("EUR", "1.0800", "AMOUNT_PRECISION"),
        ("EUR", "1.250.000", "AMOUNT_UNREADABLE"),
        ("KWD", "1.0800", "AMOUNT_PRECISION"),
        ("KWD", "1.08000", "AMOUNT_PRECISION"),
        ("CLF", "1.08000", "AMOUNT_PRECISION"),
        ("UYW", "1.000000", "AMOUNT_PRECISION"),
    ],
)
def test_places_that_the_currency_does_not_have(currency: str, amount: str, code: str) -> None:
    """Zeros count as written: where thousands are set apart by a point, 1.000 is a thousand."""
    assert codes(read_json(currency=currency, amount=amount), Severity.ERROR) == [code]
    capped = [{"method": "card", "max_amount": amount}]
    context = read_json(currency=currency, amount="100", payment_methods=capped)
    assert codes(context, Severity.ERROR) == [code]


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [
        ("KWD", "1.080", 1080),
        ("KWD", "1.08", 1080),
        ("CLF", "1.080", 10800),
        ("UYW", "1.0000", 10000),
        ("JPY", "1000", 1000),
        ("KWD", "1,250.500", 1250500),
    ],
)
def test_places_that_the_currency_has(currency: str, amount: str, minor: int) -> None:
    context = read_json(currency=currency, amount=amount)
    assert (context.amount_minor, context.refused) == (minor, False)


@pytest.mark.parametrize(
    ("currency", "number", "code"),
    [
        ("EUR", "1.080", "AMOUNT_AMBIGUOUS"),
        ("EUR", "1250.000", "AMOUNT_AMBIGUOUS"),
        ("EUR", "1250.00", "AMOUNT_AMBIGUOUS"),
        ("EUR", "1.0800", "AMOUNT_PRECISION"),
        ("EUR", "1080e-3", "AMOUNT_PRECISION"),
        ("EUR", "10.80e-1", "AMOUNT_PRECISION"),
        ("JPY", "1.000", "AMOUNT_AMBIGUOUS"),
        ("JPY", "1.5", "AMOUNT_PRECISION"),
        ("VND", "250.000", "AMOUNT_AMBIGUOUS"),
    ],
)
def test_places_of_a_json_number_as_it_is_written(currency: str, number: str, code: str) -> None:
    raw = f'{{"merchant_id":"acme","currency":"{currency}","amount":{number}}}'
    assert codes(read(raw.encode()), Severity.ERROR) == [code]


@pytest.mark.parametrize(
    ("number", "minor"), [("1.08", 108), ("1.08E0", 108), ("1.234567891E7", 1234567891)]
)
def test_numbers_as_programs_write_them(number: str, minor: int) -> None:
    context = read(f'{{"merchant_id":"acme","currency":"EUR","amount":{number}}}'.encode())
    assert (context.amount_minor, codes(context)) == (minor, ["AMOUNT_IS_FLOAT"])


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1.080", "AMOUNT_AMBIGUOUS"),
        ("1.0", "AMOUNT_PRECISION"),
        ("12,5", "AMOUNT_UNREADABLE"),
        (1.08, "AMOUNT_PRECISION"),
        (1250.0, "AMOUNT_PRECISION"),
    ],
)
def test_minor_units_have_no_places(value: object, code: str) -> None:
    assert codes(read_json(amount=None, amount_minor=value), Severity.ERROR) == [code]
    capped = [{"method": "card", "max_amount_minor": value}]
    assert codes(read_json(payment_methods=capped), Severity.ERROR) == [code]


@given(
    st.sampled_from(sorted(EXPONENTS)),
    st.from_regex(r"[0-9]{1,8}\.[0-9]{1,8}", fullmatch=True),
    st.sampled_from(["{}", '"{}"', '"${}"', '"{} {c}"', '" {}"']),
)
def test_more_places_than_the_currency_has_are_never_read(
    currency: str, amount: str, form: str
) -> None:
    written = form.format(amount, c=currency)
    raw = f'{{"merchant_id":"acme","currency":"{currency}","amount":{written}}}'.encode()
    context = read(raw)
    places = len(amount.partition(".")[2])
    if places > EXPONENTS[currency]:
        assert context.refused
        assert context.amount_minor == 0
    if not context.refused:
        assert context.amount_minor == Decimal(amount).scaleb(EXPONENTS[currency])


def test_a_struct_says_that_the_digits_are_gone() -> None:
    """A double keeps no zeros: what it holds is read as the sender's program held it, and he is told."""
    struct = struct_pb2.Struct()
    struct.update(CLEAN | {"amount": 1.08})
    request = service_pb.CreatePaymentRequest(external_request=struct)
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request)
    context = interpret(found.tree, found.findings)
    assert (context.amount_minor, codes(context)) == (108, ["AMOUNT_IS_FLOAT"])
    assert "unknown" in context.issues[0].message
    struct.update({"amount": 1250})
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request.__class__(external_request=struct))
    context = interpret(found.tree, found.findings)
    assert context.amount_minor == 1250
    assert codes(context, Severity.WARNING) == ["AMOUNT_IN_MINOR_UNITS"]
    struct.update({"amount": 1.085})
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request.__class__(external_request=struct))
    assert codes(interpret(found.tree, found.findings)) == ["AMOUNT_AMBIGUOUS"]


def read_struct(**fields: Any) -> Context:
    """Read a Struct that is clean but for `fields`."""
    struct = struct_pb2.Struct()
    struct.update(CLEAN | fields)
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(service_pb.CreatePaymentRequest(external_request=struct))
    return interpret(found.tree, found.findings)


@pytest.mark.parametrize("number", [77, 10**15, 1764363194002123, 2**53 - 1])
def test_whole_numbers_of_a_struct_keep_their_digits(number: int) -> None:
    context = read_struct(
        order_id=number, person_id=number, idempotency_key=number, metadata={"n": number}
    )
    assert set(codes(context)) == {"TEXT_AS_NUMBER"}
    ids = {context.order_id, context.person_id, context.body_key, dict(context.metadata)["n"]}
    assert ids == {str(number)}


@pytest.mark.parametrize(
    "key", [rb"ab\ud83d", rb"\ud800", b"ab\xff", rb"a\u0000b", "ab\ufffd".encode()]
)
def test_a_key_that_cannot_be_kept_as_it_is_charges_nothing(key: bytes) -> None:
    """Two such keys would become one."""
    keyed = read(json.dumps(CLEAN).encode()[:-1] + b', "idempotency_key": "%b"}' % key)
    assert codes(keyed, Severity.ERROR) == ["INVALID_IDEMPOTENCY_KEY"]
    assert keyed.body_key == ""


@pytest.mark.parametrize("number", [2**53, 10**16, 123456789012345678, 10**300])
def test_rounded_numbers_of_a_struct_name_nothing(number: int) -> None:
    """Two numbers that differ at their end are one double."""
    context = read_struct(order_id=number, person_id=number, org_id=number)
    assert codes(context, Severity.WARNING) == ["INVALID_ID"] * 3
    assert (context.order_id, context.person_id, context.org_id) == ("", "anonymous", "")
    keyed = read_struct(idempotency_key=number)
    assert codes(keyed, Severity.ERROR) == ["INVALID_IDEMPOTENCY_KEY"]
    assert keyed.body_key == ""
    noted = read_struct(metadata={"n": number})
    assert (codes(noted), noted.refused) == (["NUMBER_ROUNDED"], False)


def test_the_largest_amount_in_a_struct() -> None:
    assert read_struct(amount=10**15).amount_minor == 10**15
    assert read_struct(amount=None, amount_minor=10**15).amount_minor == 10**15


def test_numbers_of_a_raw_text_keep_their_digits() -> None:
    """Python's float would have made 12.5 of it; the text has more digits than a double holds."""
    raw = b'{"merchant_id":"acme","order_id":"o","person_id":"p","currency":"USD","amount":12.500000000000000001}'
    assert codes(read(raw), Severity.ERROR) == ["AMOUNT_AMBIGUOUS"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount": "12.50", "amount_minor": 1251}, "AMOUNT_CONFLICT"),
        ({"amount": None, "amount_cents": 1250, "currency": "JPY"}, "AMOUNT_AMBIGUOUS"),
        ({"amount": None, "amount_minor": 12.5}, "AMOUNT_PRECISION"),
        ({"currency": None}, "MISSING"),
        ({"currency": "XXQ"}, "UNKNOWN_CURRENCY"),
        ({"currency": 840}, "UNKNOWN_CURRENCY"),
        ({"merchant_id": None}, "MISSING"),
        ({"merchant_id": "a b"}, "INVALID_ID"),
        ({"merchant_id": {"id": "acme"}}, "INVALID_ID"),
        ({"method": "Credit Card!"}, "INVALID_METHOD"),
        ({"payment_methods": "card"}, "WRONG_TYPE"),
        ({"payment_methods": [None]}, "WRONG_TYPE"),
        ({"payment_methods": [{"method": None}]}, "INVALID_METHOD"),
        ({"method": None, "token": "tok_approve"}, "INVALID_METHOD"),
        ({"currency": ""}, "MISSING"),
        ({"merchant_id": ""}, "MISSING"),
        ({"merchant_id": " "}, "MISSING"),
        ({"payment_methods": [{"method": "card", "max_amount": ""}]}, "AMOUNT_UNREADABLE"),
        (
            {"payment_methods": [{"method": "card", "max_amount": "1", "max_amount_minor": 99}]},
            "AMOUNT_CONFLICT",
        ),
        ({"payment_methods": [3]}, "WRONG_TYPE"),
        ({"payment_methods": [{"method": "card", "max_amount": "5,0"}]}, "AMOUNT_UNREADABLE"),
        ({"method": "card", "token": "4242 4242 4242 4242"}, "CARD_DATA"),
        ({"method": "card", "token": "4242424242424242"}, "CARD_DATA"),
        ({"method": "card", "token": 7}, "INVALID_TOKEN"),
    ],
)
def test_doubt_about_money_refuses(fields: dict[str, Any], code: str) -> None:
    context = read_json(**fields)
    assert codes(context, Severity.ERROR) == [code]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"splits": [{"method": "wallet", "amount": "5.00"}, "card"]}, "splits[0].amount"),
        (
            {"payment_methods": [{"method": "card", "amountMinor": 500}]},
            "payment_methods[0].amountMinor",
        ),
        ({"methods": [{"method": "card", "max_amount_cents": 500}]}, "methods[0].max_amount_cents"),
        ({"methods": [{"method": "card", "minor_units": "500"}]}, "methods[0].minor_units"),
        ({"method": "wallet", "max_amount": "5.00"}, "max_amount"),
        ({"MaxAmountMinor": 500}, "MaxAmountMinor"),
        ({"minor_units": 500}, "minor_units"),
        ({"max_amount": ""}, "max_amount"),
    ],
)
def test_an_amount_where_none_is_read_is_in_doubt(fields: dict[str, Any], path: str) -> None:
    """Who wrote it meant a limit or a share: without it more would be taken from a method than the payer gave."""
    context = read_json(**fields)
    assert [(i.field, i.code) for i in context.issues if i.severity is Severity.ERROR] == [
        (path, "AMOUNT_AMBIGUOUS")
    ]


def test_an_absent_amount_where_none_is_read() -> None:
    raw = json.dumps(CLEAN | {"max_amount": None, "methods": [{"method": "card", "amount": None}]})
    assert not read(raw.encode()).refused


@pytest.mark.parametrize("currency", ["EUR", "JPY", "US", 840, {"code": "USD"}])
def test_a_limit_in_another_currency(currency: object) -> None:
    limited = {"method": "card", "max_amount": "5.00", "currency": currency}
    assert codes(read_json(payment_methods=[limited]), Severity.ERROR) == ["CURRENCY_CONFLICT"]


@pytest.mark.parametrize("currency", ["USD", "usd", None, ""])
def test_a_limit_that_names_the_currency_of_the_payment(currency: object) -> None:
    limited = {"method": "card", "max_amount": "5.00", "currency": currency}
    context = read_json(payment_methods=[limited])
    assert (codes(context), context.preferences[0].max_minor) == ([], 500)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"currency": "usd"}, "OTHER_SPELLING"),
        ({"order_id": None}, None),
        ({"person_id": None}, None),
        ({"order_id": "", "person_id": " "}, "SPACE_AROUND_VALUE"),
        ({"order_id": 77}, "TEXT_AS_NUMBER"),
        ({"amount": "12.50", "amount_minor": 1250}, None),
        ({"shoe_size": 43}, "UNKNOWN_FIELD"),
        ({"cvv": "123"}, "CARD_DATA"),
        ({"metadata": {"a": {"b": 1}}}, "WRONG_TYPE"),
        ({"metadata": "text"}, "WRONG_TYPE"),
        ({"metadata": {"a": "x" * 501}}, "VALUE_TOO_LONG"),
        ({"metadata": {str(n): "x" for n in range(60)}}, "TOO_MUCH_METADATA"),
        ({"metadata": {"note": "pay with 4242-4242-4242-4242"}}, "CARD_DATA"),
        ({"payment_methods": ["card"], "method": "wallet"}, "METHOD_IGNORED"),
        ({"payment_methods": ["card"], "token": "tok_approve"}, "METHOD_IGNORED"),
        ({"payment_methods": ["card"], "method": ""}, None),
        ({"payment_methods": []}, None),
        ({"payment_methods": {}}, None),
        ({"payment_methods": [], "method": "card"}, None),
        ({"metadata": []}, None),
        ({"metadata": {}}, None),
        ({"metadata": ""}, None),
        ({"metadata": {"a": None}}, None),
        ({"idempotency_key": ""}, None),
        ({"token": ""}, None),
        ({"method": ""}, None),
        ({"order_id": {}}, None),
        ({"person_id": []}, None),
        ({"org_id": ""}, None),
        ({"org_id": None}, None),
        ({"org_id": "two words"}, "INVALID_ID"),
        ({"org_id": "x" * 65}, "INVALID_ID"),
        ({"org_id": {"id": 1}}, "INVALID_ID"),
        ({"order_id": {"id": 1}}, "INVALID_ID"),
        ({"payment_methods": "", "methods": ["card"]}, "OTHER_SPELLING"),
        ({"order_id": "", "orderId": "o-2"}, "OTHER_SPELLING"),
        ({"amount": {"currencyCode": "USD", "minorUnits": "1250"}}, "OTHER_SPELLING"),
    ],
)
def test_what_is_certain_goes_on(fields: dict[str, Any], code: str | None) -> None:
    context = read_json(**fields)
    assert not context.refused
    assert context.amount_minor == 1250
    assert sorted(set(codes(context))) == ([code] if code else [])


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("org_id", False),
        ("orgId", True),
        ("OrgID", True),
        ("organization_id", True),
        ("organisationId", True),
    ],
)
def test_whose_debt_is_paid_is_read_beside_who_pays(name: str, spelled: bool) -> None:
    context = read_json(**{name: "o:acme"})
    assert (context.person_id, context.org_id) == ("p-1", "o:acme")
    assert codes(context) == (["OTHER_SPELLING"] if spelled else [])
    assert read_json().org_id == "", "nobody is guessed"
    twice = read_json(org_id="acme", orgId="other")
    assert (twice.refused, codes(twice, Severity.ERROR)) == (True, ["DUPLICATE_FIELD"])


NULLS = [
    "order_id",
    "person_id",
    "org_id",
    "amount_minor",
    "amount_cents",
    "method",
    "token",
    "payment_methods",
    "metadata",
    "idempotency_key",
    "card_number",
]


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": {"currencyCode": "USD", "minorUnits": 1250, "extra": None}},
        {"max_amount": None, "max_amount_minor": None, "nothing": None},
        {"payment_methods": [{"method": "card", "max_amount_cents": None, "amount": None}]},
        {"payment_methods": [{"method": "card", "max_amount": None, "token": None}]},
        {"metadata": {"a": None}},
    ],
)
def test_null_means_absent_wherever_it_stands(fields: dict[str, Any]) -> None:
    context = read(json.dumps(CLEAN | fields).encode())
    assert context.amount_minor == 1250
    assert not context.refused
    assert codes(context, Severity.WARNING) == []


@given(st.sets(st.sampled_from(NULLS)))
def test_null_means_absent(sent: set[str]) -> None:
    body = CLEAN | dict.fromkeys(sent)
    context = read(json.dumps(body).encode())
    without = read(json.dumps({k: v for k, v in body.items() if v is not None}).encode())
    assert codes(context) == []
    assert (context.amount_minor, context.preferences) == (without.amount_minor, ())
    assert (context.order_id, context.person_id) == (without.order_id, without.person_id)


def test_null_beside_a_value() -> None:
    either = read_json(amount=None, amount_minor=1250)
    head = b'{"merchant_id":"acme","order_id":"o-1","person_id":"p-1","currency":"USD",'
    beside = read(head + b'"amount":null,"amount_minor":1250,"amount_cents":null}')
    assert (beside.amount_minor, codes(beside)) == (either.amount_minor, [])
    twice = read(head + b'"amount":null,"Amount":null,"amount":"12.50"}')
    assert (twice.amount_minor, codes(twice)) == (1250, [])
    limits = read(
        head
        + b'"amount":"12.50","payment_methods":[{"method":"card","token":null,"max_amount":null,'
        b'"max_amount_minor":500}]}'
    )
    assert (limits.preferences[0].max_minor, codes(limits)) == (500, [])


@pytest.mark.parametrize(
    ("in_body", "beside", "found"),
    [
        ("k-1", "k-1", []),
        ("k-1", "k-2", ["IDEMPOTENCY_KEY_IGNORED"]),
        ("K-1", "k-1", ["IDEMPOTENCY_KEY_IGNORED"]),
        ("0190C1DE-5123-7456-8901-423456789012", "0190c1de-5123-7456-8901-423456789012", []),
        (None, "k-1", []),
    ],
)
def test_a_key_in_the_body_that_is_not_the_one_beside_it(
    in_body: str | None, beside: str, found: list[str]
) -> None:
    """Clients draw a new header for each try: who counts on the key of his body must be told that it is not read."""
    body = {name: text for name, text in (CLEAN | {"idempotency_key": in_body}).items() if text}
    request = service_pb.CreatePaymentRequest(raw_request=json.dumps(body).encode())
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        taken = incoming.read(request, beside)
    key = app.request_key(taken, interpret(taken.tree, taken.findings))
    assert key == taken.key
    odd = [] if len(beside) == 36 else ["ODD_IDEMPOTENCY_KEY"]
    assert [issue.code for issue in taken.findings.issues] == odd + found


@pytest.mark.parametrize(
    "names",
    [
        ("currency_code", "minor_units"),
        ("currencyCode", "minorUnits"),
        ("CurrencyCode", "MinorUnits"),
        ("currency-code", "minor-units"),
        ("currency", "MINOR_UNITS"),
    ],
)
def test_spellings_inside_an_amount(names: tuple[str, str]) -> None:
    money = {names[0]: "USD", names[1]: "1250"}
    context = read_json(amount=money)
    assert (context.amount_minor, context.refused) == (1250, False)
    assert set(codes(context)) == (
        set() if names == ("currency_code", "minor_units") else {"OTHER_SPELLING"}
    )
    capped = read_json(payment_methods=[{"method": "card", "maxAmount": money}])
    assert capped.preferences[0].max_minor == 1250


def test_spellings_of_a_currency_inside_an_amount() -> None:
    context = read_json(amount={"currency_code": "usd", "minor_units": 1250})
    assert (context.amount_minor, codes(context)) == (1250, ["OTHER_SPELLING"])


def test_a_name_is_not_read_by_its_beginning() -> None:
    """64 characters of a longer name are another name."""
    context = read_json(amount=None, **{"amount" + "_" * 60 + "before_tax": "99.00"})
    assert codes(context) == ["UNKNOWN_FIELD", "MISSING"]
    foreign = read_json(amount=None, **{"税amount": "99.00"})
    assert codes(foreign) == ["UNKNOWN_FIELD", "MISSING"]


def test_long_metadata_keys_do_not_merge() -> None:
    head = "k" * 64
    context = read_json(metadata={f"{head}-a": "1", f"{head}-b": "2", head: "3", f"{head}-c": "4"})
    assert codes(context) == ["KEY_TOO_LONG"] * 3
    assert dict(context.metadata) == {
        head: "3",
        "k" * 62 + "~2": "1",
        "k" * 62 + "~3": "2",
        "k" * 62 + "~4": "4",
    }
    alone = read_json(metadata={f"{head}-a": "1"})
    assert (dict(alone.metadata), codes(alone)) == ({head: "1"}, ["KEY_TOO_LONG"])


@given(
    st.dictionaries(
        st.text("kK~2\x00\ufffd", min_size=1, max_size=4).map(lambda end: "k" * 61 + end)
        | st.sampled_from(["4242424242424242", "4242-4242-4242-4242", "\ud800", "\ufffd", "?"]),
        st.text("abc", max_size=3),
        max_size=12,
    )
)
def test_every_metadata_value_is_kept(metadata: dict[str, str]) -> None:
    context = read_json(metadata=metadata)
    assert sorted(text for _, text in context.metadata) == sorted(metadata.values())
    assert all(1 <= len(key) <= 64 for key, _ in context.metadata)
    kept = dict(context.metadata)
    assert all(kept[key] == text for key, text in metadata.items() if key in kept)


def test_metadata_keeps_the_digits_of_long_numbers() -> None:
    raw = b'{"merchant_id":"acme","currency":"USD","amount":"1.00","metadata":{"n":%s}}'
    context = read(raw % (b"1" * 450))
    assert (codes(context), dict(context.metadata)) == ([], {"n": "1" * 450})
    assert codes(read(raw % (b"1" * 501))) == ["VALUE_TOO_LONG"]


def test_spellings_of_the_seed() -> None:
    raw = (
        b'{"MerchantID":"acme","Amount":1250,"Method":"card","Currency":"USD","Metadata":{"a":"b"}}'
    )
    context = read(raw)
    assert not context.refused
    assert (context.merchant_id, context.amount_minor, context.currency) == ("acme", 1250, "USD")
    assert context.preferences[0].method == "card"
    assert context.metadata == (("a", "b"),)
    assert context.person_id == "anonymous"


def test_duplicate_keys() -> None:
    head = b'{"merchant_id":"acme","order_id":"o","person_id":"p","currency":"USD",'
    same = read(head + b'"amount":"1.00","amount":"1.00"}')
    assert (codes(same), same.refused) == (["DUPLICATE_FIELD"], False)
    other = read(head + b'"amount":"1.00","amount":"2.00"}')
    assert (codes(other), other.refused) == (["DUPLICATE_FIELD"], True)
    hidden = read(head + b'"amount":"1.00","Amount":"2.00"}')
    assert hidden.refused
    for amounts in (
        b'"amount":"1.00","amount":"2.00"',
        b'"amount":"1.00","Amount":"2.00","amount":"2.00"',
        b'"amount_minor":100,"amountMinor":200',
        b'"amount":"1.00","amount_minor":200',
        b'"amount":"1.00","amount":"2.00","amount_minor":200',
    ):
        assert read(head + amounts + b"}").amount_minor == 0, "nothing in doubt is shown"
    for name in ("merchant_id", "order_id", "person_id", "org_id", "currency", "method", "token"):
        pair = f'"amount":"1.00","{name}":"USD","{name}":"EUR"}}'.encode()
        unsure = read(b"{" + pair)
        assert "DUPLICATE_FIELD" in codes(unsure, Severity.ERROR)
        shown = (unsure.merchant_id, unsure.order_id, unsure.org_id, unsure.currency)
        assert (shown, unsure.person_id) == (("", "", "", ""), "anonymous")
        assert not [each for each in unsure.preferences if each.method or each.token]
    nested = read(
        head + b'"amount":"9.00","payment_methods":[{"method":"card","method":"wallet"}]}'
    )
    assert nested.refused
    parts = read(head + b'"amount":"1.00","metadata":{"a":"1"},"Metadata":{"b":"2"}}')
    assert parts.metadata == (("a", "1"), ("b", "2"))
    assert codes(parts) == ["OTHER_SPELLING", "DUPLICATE_FIELD"]
    harmless = read(head + b'"amount":"1.00","metadata":{"a":"1","a":"2"}}')
    assert (codes(harmless), harmless.metadata) == (["DUPLICATE_FIELD"], (("a", "2"),))


def test_bytes_that_are_not_utf8_cost_only_their_field() -> None:
    raw = json.dumps(CLEAN | {"metadata": {"name": "Zoe"}}).encode().replace(b"Zoe", b"Zo\xeb")
    context = read(raw)
    assert (codes(context), context.refused) == (["NOT_UTF8"], False)
    assert context.metadata == (("name", "Zo\ufffd"),)
    broken_id = read(json.dumps(CLEAN).encode().replace(b"acme", b"acm\xeb"))
    assert broken_id.refused


def test_a_full_list_of_findings_still_refuses() -> None:
    fields = {f"field-{n}": n for n in range(ISSUES_MAX + 20)}
    context = read(json.dumps(fields | CLEAN | {"amount": "?"}).encode())
    assert len(context.issues) == ISSUES_MAX
    assert context.refused
    assert context.issues[-1].severity is Severity.ERROR


def test_depth_counts_brackets_outside_of_strings() -> None:
    assert tree.depth('{"a": "[[[[", "b": [1, {"c": "\\"]["}]}') == 3
    assert tree.depth("[" * 50) == 50


def test_too_large_a_request_is_not_read() -> None:
    assert codes(read(b" " * (tree.BYTES_MAX + 1))) == ["REQUEST_TOO_LARGE"]


def test_structs_nested_too_deep() -> None:
    """Objects nested as deep as protobuf decodes at all stay below our limit; lists go beyond it."""
    struct = struct_pb2.Struct()
    inner = struct.get_or_create_list("a")
    for _ in range(35):
        inner = inner.add_list()
    request = service_pb.CreatePaymentRequest(external_request=struct)
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request)
    assert found.tree is None
    assert [i.code for i in found.findings.issues] == ["NESTED_TOO_DEEP"]


@given(st.text(alphabet="0123456789.,eE+-$ ", max_size=25))
def test_any_amount_text_is_read_or_refused(text: str) -> None:
    for value in (text, Number(text)):
        findings = Findings()
        result = Reader("USD", findings).amount("amount", value)
        assert (result is None) == findings.refused
