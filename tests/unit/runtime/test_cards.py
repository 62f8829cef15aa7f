"""Card numbers in text: found wherever they stand, and nothing else is taken for one."""

from __future__ import annotations

import unicodedata
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.cards import (
    MASK,
    SPAN_MAX,
    holds_card_number,
    remark,
    without_card_numbers,
)

VISA = "4242424242424242"
# One number at least for each range and length that occurs in the field.
NUMBERS = [
    "4222222222222",
    VISA,
    "4242424242424242428",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "343434343434343",
    "30569309025904",
    "36227206271667",
    "38520000023237",
    "3530111333300000",
    "6011111111111117",
    "6445644564456445",
    "6221260000000000",
    "6200000000000005",
    "6205500000000000004",
    "2200000000000004",
    "501800000009",
    "6759649826438453",
    "6799990100000000019",
    "5641821111166669",
    "6062826786276634",
    "9792030394440796",
    "8600000000000007",
]
SEPARATORS = (
    " .-_/:,;|\\+*'\"()[]{}\t\n\u00a0\u2009\u202f\u200b\u2011\u2013\u2014\u00b7\u3000\ufeff"
    "\u115f\u1160\u3164\uffa0\u30fc\uff70\u0640\u00ba\u00aa\u02bc\u3005\u02d0\u1d2c\u00bd"
)


def check_digit(digits: str) -> str:
    """Complete a number by its check digit, the slow way."""
    for last in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(digits + last)):
            value = int(digit) * (2 if place % 2 else 1)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return digits + last
    raise AssertionError("one of ten digits fits")


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Card numbers of the large issuers."""
    prefix, length = draw(
        st.sampled_from(
            [
                ("4", 13),
                ("4", 16),
                ("4", 19),
                ("51", 16),
                ("2720", 16),
                ("37", 15),
                ("36", 14),
                ("3589", 16),
                ("6011", 16),
                ("62", 19),
                ("5018", 12),
                ("67", 13),
                ("2204", 16),
            ]
        )
    )
    rest = length - len(prefix) - 1
    return check_digit(prefix + draw(st.text("0123456789", min_size=rest, max_size=rest)))


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_issuers(number: str) -> None:
    assert holds_card_number(number)
    assert holds_card_number(f"order-{number}")
    assert holds_card_number(f"order{number}x")
    assert without_card_numbers(f"pay {number} now") == f"pay {MASK} now"


@pytest.mark.parametrize(
    "text",
    [
        "4242.4242.4242.4242",
        "4242_4242_4242_4242",
        "4242/4242:4242\\4242",
        "4242 - 4242 - 4242 - 4242",
        "4-2-4-2-4-2-4-2-4-2-4-2-4-2-4-2",
        '["4242","4242","4242","4242"]',
        "4242\u00a04242\u202f4242\u20094242",
        "4242\u200b4242\u200b4242\u200b4242",
        VISA.translate({ord("0") + n: chr(0xFF10 + n) for n in range(10)}),
        "٤٢٤٢ ٤٢٤٢ ٤٢٤٢ ٤٢٤٢",
        "④②④②④②④②④②④②④②④②",
        "4242 4242 4242 4242 12/26 123",
        "1 4242 4242 4242 4242",
        "4242ー4242ー4242ー4242",
        "4242ｰ4242ｰ4242ｰ4242",
        "4242ـ4242ـ4242ـ4242",
        "4242º4242ª4242½4242",
        "4242424242424242.0",
        "4.242424242424242e15",
        "4242%204242%204242%204242",
        "%EF%BC%94242424242424242",
        "4242&nbsp;4242&nbsp;4242&nbsp;4242",
        "".join(f"%253{digit}" for digit in VISA),
        "4242%25C2%25A04242%25C2%25A04242%25C2%25A04242",
        "".join(f"\\u003{digit}" for digit in VISA),
        r'{"pan": "4242\u00a04242\u00a04242\u00a04242"}',
        r"4242\n4242\t4242\x204242",
        r"\u0026nbsp;4242\u0026nbsp;4242\u0026nbsp;4242\u0026nbsp;4242",
        "42424242-4242-4242-8242-424242424242",
        "4242 4242 4242 4242¹",
        "¹4242424242424242",
        "①4242424242424242",
        "4242424242424242❶",
        "5555➀5555➀5555➀4444",
        "5555²5555₃5555⑴4444",
        "①5555②5555③5555④4444⑤",
        "⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵",
        "⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵⑷⑵¹",
        "⁴²⁴²⁴²⁴²⁴²⁴²⁴²⁴²",
        "①⁴²⁴²⁴²⁴²①⁴²⁴²⁴²⁴²",
        "42424242①42424242",
        "4242 4242 4242 424②",
        r"4242\u00b9424242424242",
    ],
)
def test_however_it_is_written(text: str) -> None:
    assert holds_card_number(text)
    assert not holds_card_number(without_card_numbers(text))


@settings(deadline=None)
@given(
    numbers(),
    st.lists(st.text(SEPARATORS, max_size=8), min_size=19, max_size=19),
    st.text("ab:-. ", max_size=10),
    st.text("xy:-. ", max_size=10),
    st.integers(0, 200),
)
def test_no_separator_hides_one(
    number: str, between: list[str], before: str, after: str, cut: int
) -> None:
    written = "".join(
        digit + gap for digit, gap in zip(number, between[: len(number)], strict=True)
    )
    text = f"{before}{written}{after}"
    assert holds_card_number(text)
    assert not holds_card_number(without_card_numbers(text))
    # Of a number that the cut goes through nothing is left but the mask.
    kept = without_card_numbers(text, cut)
    assert len(kept) <= cut
    assert not any(map(str.isdigit, kept))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1764363194002",
        "1764363194002123",
        "1764363194002123456",
        "2026-11-28 23:48:57.123456",
        "01KB5GZK4V9W4XABCDEFGHJKMN",
        "0190c1de-5123-7456-8901-423456789012",
        "pay_0190c1de-4242-7242-8242-424242424242",
        "4242424242424242cafe4242deadbeef",
        "507f1f77bcf86cd799439011",
        "tok_1234",
        "1234567812345670",
        "8415698462516992",
        "9000000000000003",
        "4242424242424241",
        "424242424242424242",
        "42424242424242424242",
        "0000000000000000",
        "+63 917 123 4565",
        "6281234567897",
        "350000000000006",
        "4242 4242 4242 4242"[:-1],
    ],
)
def test_what_is_none(text: str) -> None:
    assert not holds_card_number(text)
    assert without_card_numbers(text) == text


@given(st.uuids(version=4) | st.integers(0, 2**128 - 1).map(lambda n: uuid.UUID(int=n, version=4)))
def test_uuids_pass(value: uuid.UUID) -> None:
    if any(letter in str(value) for letter in "abcdef"):
        assert not holds_card_number(str(value))
        assert not holds_card_number(f"chg_{value}")
    if any(letter in value.hex for letter in "abcdef"):
        assert not holds_card_number(value.hex)


@given(st.integers(1_000_000_000_000, 1_999_999_999_999))
def test_milliseconds_pass(value: int) -> None:
    assert not holds_card_number(str(value))


@given(st.text(), st.none() | st.integers(0, 50))
def test_any_text_is_searched(text: str, cut: int | None) -> None:
    kept = without_card_numbers(text, cut)
    assert not holds_card_number(kept)
    assert cut is None or len(kept) <= cut


def test_every_modifier_letter_may_stand_between() -> None:
    modifiers = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) == "Lm"]
    assert len(modifiers) > 200
    for mark in modifiers:
        assert holds_card_number(mark.join(["4242"] * 4)), hex(ord(mark))
    for letter in "aЯд漢한あ":
        assert not holds_card_number(letter.join(["4242"] * 4))


ORNATE = [
    c
    for c in map(chr, range(0x110000))
    if unicodedata.digit(c, -1) >= 0 > unicodedata.decimal(c, -1)
]


def test_no_ornate_digit_hides_the_groups_that_it_stands_by() -> None:
    assert len(ORNATE) > 100
    for mark in ORNATE:
        for written in (
            f"{VISA}{mark}",
            f"{mark}{VISA}",
            f"{mark} {VISA} {mark}",
            mark.join(["5555", "5555", "5555", "4444"]),
        ):
            assert holds_card_number(written), (written, hex(ord(mark)))
            assert not holds_card_number(without_card_numbers(written))


@given(numbers(), st.sampled_from(ORNATE), st.sets(st.integers(1, 18), max_size=3))
def test_a_mark_between_digits_hides_none(number: str, mark: str, places: set[int]) -> None:
    marked = "".join(mark + digit if at in places else digit for at, digit in enumerate(number))
    assert holds_card_number(marked)
    assert not holds_card_number(without_card_numbers(marked))


@given(numbers(), st.sampled_from("①⑴⒈❶➀➊⓵"), st.sampled_from(["", "¹", "₃", "⑨", "፩"]))
def test_a_number_of_ornate_digits_is_one(number: str, one: str, mark: str) -> None:
    ornate = "".join(digit if digit == "0" else chr(ord(one) - 1 + int(digit)) for digit in number)
    assert holds_card_number(ornate)
    assert holds_card_number(f"{number} {mark}")
    if "0" not in number and mark != "⑨":
        assert holds_card_number(f"{mark}{ornate}{mark}")


@given(
    st.integers(1_000_000_000_000, 1_999_999_999_999),
    st.sampled_from(ORNATE),
    st.sampled_from(ORNATE),
)
def test_milliseconds_with_a_footnote_pass(value: int, before: str, after: str) -> None:
    assert not holds_card_number(f"since {value} ms{after}")
    assert not holds_card_number(f"{value}{after}")
    assert not holds_card_number(f"{before} {value}")


def test_a_search_ends_soon() -> None:
    """Where every place may begin a number, and none does."""
    text = "4 " * 100_000
    assert not holds_card_number(text)
    assert without_card_numbers(text, 64) == text[:64]
    assert SPAN_MAX < 200
    for ornate in ("4 ²" * 50_000, "①②③ 4" * 30_000, "".join(ORNATE) * 500):
        assert without_card_numbers(ornate, 0) == ""
        holds_card_number(ornate)


def test_the_check_digit_counts() -> None:
    for last in "013456789":
        assert not holds_card_number(VISA[:-1] + last)


def test_a_remark_is_no_longer_than_it_was() -> None:
    assert remark("refund to 4111-1111-1111-1111, twice") == "refund to [card number], twice"
    # The shortest number there is has a digit less than the mask has characters.
    shortest = "501800000009"
    assert holds_card_number(shortest)
    assert remark(shortest) == "[card number"
    assert remark("order 4711") == "order 4711"
