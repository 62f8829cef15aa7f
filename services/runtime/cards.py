"""Finds payment card numbers in text, so that none is stored, published or logged.

A run of digits is a card number when an issuer's prefix, a length that this issuer gives, and the check digit of
ISO/IEC 7812 agree. Up to 8 characters that are neither letter nor digit may stand between two digits; modifier
letters, which are marks to whoever reads them, count with those. Digits that are ornaments too, such as ² and ②, are
read both ways. Ranges and exceptions, and what they cost: docs/decisions/0085-card-numbers.md.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from urllib.parse import unquote

DIGITS_MIN = 12
DIGITS_MAX = 19
# Characters that a card number spans at most: its digits, and 8 characters between any two.
SPAN_MAX = DIGITS_MAX + 8 * (DIGITS_MAX - 1)
MASK = "[card number]"

# First and last four digits of each range, and the lengths that are issued. A later row replaces an earlier one.
_RANGES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4000, 4999, (13, 16, 19)),  # Visa
    (5100, 5599, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (3400, 3499, (15,)),  # American Express
    (3700, 3799, (15,)),
    (3000, 3059, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (3095, 3095, (14, 15, 16, 17, 18, 19)),
    (3600, 3699, (14, 15, 16, 17, 18, 19)),
    (3800, 3999, (14, 15, 16, 17, 18, 19)),
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (2200, 2205, (16, 17, 18, 19)),  # Mir, Borica
    (5000, 5099, (16, 17, 18, 19)),  # Maestro, Elo, Verve, RuPay
    (5600, 5899, (16, 17, 18, 19)),  # Maestro, Uzcard
    (6000, 6999, (16, 17, 18, 19)),  # Discover, UnionPay, Maestro, RuPay, Elo, Troy
    (8600, 8600, (16,)),  # Uzcard
    (9792, 9792, (16,)),  # Troy
    (9860, 9860, (16,)),  # Humo
    *(
        # Prefixes under which Maestro has issued short numbers.
        (first, last, tuple(range(DIGITS_MIN, DIGITS_MAX + 1)))
        for first, last in (
            (5018, 5018),
            (5020, 5020),
            (5038, 5038),
            (5893, 5893),
            (6304, 6304),
            (6390, 6390),
            (6700, 6799),
        )
    ),
)
_LENGTHS = {
    str(prefix): lengths for first, last, lengths in _RANGES for prefix in range(first, last + 1)
}
_RUN = re.compile(r"[0-9]+(?: {1,8}[0-9]+)*")
_DOUBLED = str.maketrans("0123456789", "0246813579")
_NOT_DIGITS = str.maketrans("", "", "0123456789")
_FLAT_ASCII = {
    code: chr(code) if chr(code).isdigit() else "x" if chr(code).isalpha() else " "
    for code in range(128)
}
# Letters to Unicode, and none to whoever reads them: fillers of Hangul, and the signs of ordinals.
_NO_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u00aa\u00ba")
# Modifier letters lengthen, repeat or stand above others (Japanese ー, Arabic tatweel); fractions and the like are no
# digits.
_NO_LETTER_CATEGORIES = frozenset({"Lm", "No"})
# Text that was encoded more often than this hides more than a card number.
_DECODINGS_MAX = 3
# What tells the digits of one kind apart in their names: CIRCLED DIGIT ONE.
_NUMERALS = frozenset(
    ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
)
# How JSON and most languages write a character inside of a text.
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|[nrt])")
# UUIDs, and hexadecimal ids of 24, 32, 40 and 64 digits: with a letter among them they are no card numbers.
_IDS = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]*[a-fA-F])(?:"
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
    r"|[0-9a-fA-F]{64}|[0-9a-fA-F]{40}|[0-9a-fA-F]{32}|[0-9a-fA-F]{24})(?![0-9A-Za-z])"
)


def holds_card_number(text: str) -> bool:
    """True when the text contains a card number, plain, escaped, percent-encoded or with HTML's entities."""
    return bool(_spans(text)) or _hides_one(text)


def without_card_numbers(text: str, characters_max: int | None = None) -> str:
    """Return the text with `[card number]` in the place of each card number.

    With `characters_max` it is cut, and searched before: of a card number that was cut in two, most would survive.
    """
    end = len(text) if characters_max is None else characters_max
    text = text[: end + SPAN_MAX]
    spans = _spans(text)
    if _hides_one(_masked(text, spans, len(text))):
        return MASK[:characters_max]  # where it stands in the text is not known
    return _masked(text, spans, end)[:characters_max]


def remark(text: str) -> str:
    """Return what people say of what they do, as it is stored: without card numbers, and no longer than it was."""
    return without_card_numbers(text, len(text))


def _masked(text: str, spans: list[tuple[int, int]], end: int) -> str:
    kept, position = "", 0
    for first, last in spans:
        if first < end:
            kept += text[position:first] + MASK
            position = last
    return kept + text[position:end]


def _hides_one(text: str) -> bool:
    """True when a card number stands in what an encoded text says; also when it was encoded again."""
    if not any(mark in text for mark in "%&\\"):
        return False
    for _ in range(_DECODINGS_MAX):
        decoded = html.unescape(unquote(_ESCAPE.sub(_escaped, text)))
        if decoded == text:
            return False
        if _spans(decoded):
            return True
        text = decoded
    return False


def _escaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else " "


def _spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of each stretch of card numbers; some may overlap, and then they are one stretch."""
    found = _found(text)
    if found:
        # Rarely needed, so it comes second.
        found = _found(_IDS.sub(lambda known: "x" * len(known[0]), text))
    spans: list[tuple[int, int]] = []
    for start, end in found:
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _hits(flat: str) -> list[tuple[int, int]]:
    if len(flat) - len(flat.translate(_NOT_DIGITS)) < DIGITS_MIN:
        return []
    return [
        (run.start() + start, run.start() + end)
        for run in _RUN.finditer(flat)
        if len(run[0]) >= DIGITS_MIN
        for start, end in _in_run(run[0])
    ]


def _found(text: str) -> list[tuple[int, int]]:
    return sorted({hit for flat in _readings(text) for hit in _hits(flat)})


def _readings(text: str) -> Iterator[str]:
    """Give the text with digits of any script as 0-9, letters as x and all else as spaces, place by place.

    Ornate digits are read as digits, as marks, and, where there are several kinds, those of the commonest kind as
    digits among marks: what stands for an ornament hides nothing.
    """
    if text.isascii():
        yield text.translate(_FLAT_ASCII)
        return
    yield _flat(text, lambda _: True)
    kind_of = {ornate: _kind(ornate) for ornate in set(text) if _is_ornate(ornate)}
    if not kind_of:
        return
    yield _flat(text, lambda _: False)
    kinds = Counter(kind_of[character] for character in text if character in kind_of)
    if len(kinds) > 1:
        commonest = kinds.most_common(1)[0][0]
        yield _flat(text, lambda ornate: kind_of[ornate] == commonest)


def _is_ornate(character: str) -> bool:
    """True of digits with no place in a number, such as exponents and those in a circle."""
    return unicodedata.digit(character, -1) >= 0 > unicodedata.decimal(character, -1)


def _kind(ornate: str) -> str:
    return " ".join(word for word in unicodedata.name(ornate).split() if word not in _NUMERALS)


def _flat(text: str, counts: Callable[[str], bool]) -> str:
    """Read a text; an ornate digit is one when it counts."""
    characters = {
        character: " " if _is_ornate(character) and not counts(character) else _flat_one(character)
        for character in set(text)
    }
    return "".join(map(characters.__getitem__, text))


def _flat_one(character: str) -> str:
    digit = unicodedata.digit(character, -1)
    if digit >= 0:
        return str(digit)
    is_mark = character in _NO_LETTERS or unicodedata.category(character) in _NO_LETTER_CATEGORIES
    return "x" if character.isalnum() and not is_mark else " "


def _in_run(run: str) -> list[tuple[int, int]]:
    """Find card numbers that begin and end where groups of digits do: within a longer number there is none."""
    digits = run.replace(" ", "")
    ends = list(accumulate(map(len, run.split())))
    bounds = frozenset(ends)
    windows = [
        (first, first + length)
        for first in (0, *ends[:-1])
        for length in _LENGTHS.get(digits[first : first + 4], ())
        if first + length in bounds
    ]
    if not windows:
        return []
    checks = _checks(digits)
    places: list[int] = []
    found = []
    for first, last in windows:
        sums = checks[last % 2]
        if (sums[last] - sums[first]) % 10 == 0:
            places = places or [place for place, digit in enumerate(run) if digit != " "]
            found.append((places[first], places[last - 1] + 1))
    return found


def _checks(digits: str) -> tuple[list[int], list[int]]:
    """Return the running sums of the check digit, for numbers that end after an even, and after an odd place."""
    plain = list(map(int, digits))
    even = list(map(int, digits.translate(_DOUBLED)))
    odd = [*plain]
    odd[1::2] = even[1::2]
    even[1::2] = plain[1::2]
    return list(accumulate(even, initial=0)), list(accumulate(odd, initial=0))
