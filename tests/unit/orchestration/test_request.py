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

from services.orchestration import codec, incoming
from services.orchestration.domain import tree
from services.orchestration.domain.amounts import Reader
from services.orchestration.domain.issues import ISSUES_MAX, Findings, Severity
from services.orchestration.domain.request import Context, holds_card_number, interpret
from services.orchestration.domain.tree import Number
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
        ("1,250", "AMOUNT_UNREADABLE"),
        ("1.250,00", "AMOUNT_UNREADABLE"),
        ("twelve", "AMOUNT_UNREADABLE"),
        ("", "AMOUNT_UNREADABLE"),
        ("١٢", "AMOUNT_UNREADABLE"),
        ("1e2", "AMOUNT_UNREADABLE"),
        ("$", "AMOUNT_UNREADABLE"),
        ("€12.50", "CURRENCY_CONFLICT"),
        ("12.505", "AMOUNT_PRECISION"),
        ("-1.00", "AMOUNT_NOT_POSITIVE"),
        ("0.00", "AMOUNT_NOT_POSITIVE"),
        ("99999999999999999999", "AMOUNT_OUT_OF_RANGE"),
        (0, "AMOUNT_NOT_POSITIVE"),
        (-5, "AMOUNT_NOT_POSITIVE"),
        (12.505, "AMOUNT_PRECISION"),
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
        (None, "MISSING"),
    ],
)
def test_doubtful_amounts_are_refused(amount: object, code: str) -> None:
    context = read_json(amount=amount)
    assert context.refused
    assert context.amount_minor == 0
    assert codes(context, Severity.ERROR) == [code]


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
        ({"payment_methods": []}, "WRONG_TYPE"),
        ({"payment_methods": [3]}, "WRONG_TYPE"),
        ({"payment_methods": [{"method": "card", "max_amount": "5,0"}]}, "AMOUNT_UNREADABLE"),
        ({"method": "card", "token": "4242 4242 4242 4242"}, "INVALID_TOKEN"),
        ({"method": "card", "token": "4242424242424242"}, "CARD_DATA"),
        ({"method": "card", "token": 7}, "INVALID_TOKEN"),
    ],
)
def test_doubt_about_money_refuses(fields: dict[str, Any], code: str) -> None:
    context = read_json(**fields)
    assert codes(context, Severity.ERROR) == [code]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"currency": "usd"}, "OTHER_SPELLING"),
        ({"order_id": None}, "MISSING"),
        ({"person_id": None}, "MISSING"),
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
    ],
)
def test_what_is_certain_goes_on(fields: dict[str, Any], code: str | None) -> None:
    context = read_json(**fields)
    assert not context.refused
    assert context.amount_minor == 1250
    assert codes(context) == ([code] if code else [])


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
    nested = read(
        head + b'"amount":"9.00","payment_methods":[{"method":"card","method":"wallet"}]}'
    )
    assert nested.refused
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


def test_card_numbers_by_their_check_digit() -> None:
    assert holds_card_number("4242424242424242")
    assert holds_card_number("x 5555-5555-5555-4444 y")
    assert not holds_card_number("4242424242424241")
    assert not holds_card_number("0000000000000000")
    assert not holds_card_number("tok_1234")
