"""What the patterns of `proto/` ask for, in words; a person may have to read it."""

from __future__ import annotations

import re

# The patterns, as they stand in protovalidate's messages.
_IN_MESSAGE = re.compile(r"does not match regex pattern `(?P<pattern>.*)`", re.DOTALL)
_DECIMAL = re.compile(
    r"\^(?P<minus>-\?)?\[0-9\]\{1,(?P<whole>\d+)\}\(\\\.\[0-9\]\{1,(?P<places>\d+)\}\)\?\$"
)
_SUBJECT = re.compile(
    r"\^(?P<any>\(\\\*\|)?\(\[a-z0-9_-\]\+\\\.\)\{1,(?P<parts>\d)\}"
    r"(?P<last>\(\[a-z0-9_-\]\+\|\\\*\)|\[a-z0-9_-\]\+)\)?\$"
)
_CHARACTERS = re.compile(
    r"\^(?P<empty>\()?(?P<start>\w*)(\[(?P<first>[^]]+)\])?"
    r"\[(?P<kind>[^]]+)\]\{(?P<least>\d+)(,(?P<most>\d+))?\}(?(empty)\)\?)\$"
)
_NOT_NUL = r"^\x00"
_RANGES = (
    ("A-Za-z", "letters"),
    ("a-z", "small letters"),
    ("A-Z", "capital letters"),
    ("0-9", "digits"),
    ("a-f", "small letters a to f"),
)
_NAME = (
    "a name such as amount, or two joined by a dot such as split.fee: small letters, digits and _"
)
_ODD = {
    r"^[0-9]{1,3}([.][0-9]{1,18})?$": (
        'must be a decimal such as "12.5": up to 3 digits before the point and 18 after it'
    ),
    r"^-?[0-9]+([.][0-9]+)?$": 'must be a decimal such as "12.5", without exponent',
    r"^[a-z][a-z0-9_]{0,63}([.][a-z][a-z0-9_]{0,63})?$": f"must be {_NAME}",
    r"^([a-z][a-z0-9_]{0,63}([.][a-z][a-z0-9_]{0,63})?)?$": f"must be {_NAME}, or empty",
    r"^(\*|[a-z]{2,20}:(read|write|admin))$": (
        "must be a scope such as metering:write, or * for every scope of the tenant"
    ),
    r"^([0-9]{1,2}(\.[0-9]{1,6})?)?$": (
        'must be a decimal such as "2.9": up to 2 digits before the point and 6 after it, or empty'
    ),
    r"^([0-9]{1,40}(\.[0-9]{1,18})?)?$": (
        'must be a decimal such as "12.5", not negative, without exponent, at most 40 digits before the point and 18'
        " after it, or empty"
    ),
    r"^rcp_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$": (
        "must be the id of a receipt as it was given: rcp_ and a UUID in small letters"
    ),
    **{
        rf"^{prefix}_[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$": (
            f"must be the id of {what}: {prefix}_ and a UUID of version 7 in small letters"
        )
        for prefix, what in (("ord", "an order"), ("per", "a person"), ("org", "an organisation"))
    },
    r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$": (
        "must be a country of ISO 3166-1 such as CA, or one with its region such as CA-QC, in capital letters"
    ),
    r"^(100(\.0{1,18})?|[0-9]{1,2}(\.[0-9]{1,18})?)$": (
        'must be a decimal from 0 to 100 such as "12.5", with at most 18 digits after the point'
    ),
}
UNKNOWN = "does not have the format of this field"


def reworded(message: str) -> str:
    """Return what one of protovalidate's messages says, with words in place of its pattern."""
    found = _IN_MESSAGE.search(message)
    if found is None:
        return message
    pattern = found["pattern"]
    if decimal := _DECIMAL.fullmatch(pattern):
        return _said_of_decimal(decimal)
    if subject := _SUBJECT.fullmatch(pattern):
        return _said_of_subject(subject)
    if characters := _CHARACTERS.fullmatch(pattern):
        return _said_of_characters(characters)
    return _ODD.get(pattern, UNKNOWN)


def _said_of_decimal(decimal: re.Match[str]) -> str:
    sign = "" if decimal["minus"] else ", not negative"
    digits = f"at most {decimal['whole']} digits before the point and {decimal['places']} after it"
    return f'must be a decimal such as "12.5"{sign}, without exponent, {digits}'


def _said_of_subject(subject: re.Match[str]) -> str:
    parts = int(subject["parts"]) + 1
    text = f"must be 2 to {parts} parts of a-z, 0-9, _ and - joined by dots, such as order.created"
    if "*" in subject["last"]:
        text += ", or such as order.*"
    return f"{text}, or * alone" if subject["any"] else text


def _said_of_characters(characters: re.Match[str]) -> str:
    least, most = int(characters["least"]), int(characters["most"] or characters["least"])
    if characters["first"]:
        least, most = least + 1, most + 1
    length = f"{least} to {most}" if least else f"at most {most}"
    if least == most:
        length = str(most)
    text = f"must be {length} {_kinds(characters['kind'])}"
    if characters["start"]:
        text = f"must be {characters['start']} and then {length} {_kinds(characters['kind'])}"
    if characters["first"]:
        first = _kinds(characters["first"]).replace("letters", "letter").replace("digits", "digit")
        text += f", the first a {first}"
    return f"{text}, or empty" if characters["empty"] else text


def _kinds(characters: str) -> str:
    """Name the characters of a class: `A-Za-z0-9._:-` are letters, digits or . _ : -"""
    if characters == _NOT_NUL:
        return "characters, none of them NUL"
    kinds: list[str] = []
    for written, name in _RANGES:
        if written in characters:
            kinds.append(name)
            characters = characters.replace(written, "", 1)
    if characters:
        kinds.append(" ".join(characters))
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
