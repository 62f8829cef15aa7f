"""Reads a merchant's request into the strict context that everything behind it works on.

Total: any tree gives a context and findings, never an exception. Source of the shape: seed `ExternalRequest` and
`CoreRequestContext`; docs/guides/payment-requests.md documents the fields and their other spellings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

from services.orchestration.domain import fields as names
from services.orchestration.domain.amounts import Reader
from services.orchestration.domain.config import Capture
from services.orchestration.domain.fields import Field, names_security_code
from services.orchestration.domain.issues import PATH_MAX, Findings, Issue
from services.orchestration.domain.tree import Number, Object, Tree
from services.runtime.cards import SPAN_MAX, holds_card_number
from services.runtime.money import EXPONENTS
from services.runtime.texts import is_kept_whole, storable

PREFERENCES_MAX = 20
METADATA_MAX = 50
METADATA_KEY_MAX = 64
METADATA_VALUE_MAX = 500
ID_MAX = 64
METHOD_MAX = 32
TOKEN_MAX = 200
BODY_KEY_MAX = 200
ANONYMOUS = "anonymous"
DROPPED = "[dropped]"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TOKEN = re.compile(r"[A-Za-z0-9._:@-]{1,200}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_BIN = re.compile(r"[0-9]{4,8}")

_REQUEST_FIELDS = {
    name: name
    for name in (
        "merchant_id",
        "order_id",
        "person_id",
        "org_id",
        "amount",
        "amount_minor",
        "amount_cents",
        "currency",
        "method",
        "token",
        "payment_methods",
        "metadata",
        "idempotency_key",
        "capture",
        "country",
        "bin",
    )
}
_CAPTURES = {each.value.lower(): each for each in Capture}
_PREFERENCE_FIELDS = {
    name: name for name in ("method", "max_amount", "max_amount_minor", "currency", "token", "bin")
}


@dataclass(frozen=True, slots=True)
class Preference:
    """One method that the payer offers.

    Attributes:
        method: e.g. `card`.
        max_minor: most that may be taken from it, in minor units; None without a limit.
        token: names the instrument; empty for the one that the processor has on file.
        bin: first digits of its card number; empty when they were not sent.
    """

    method: str
    max_minor: int | None = None
    token: str = ""
    bin: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """The strict reading of a request (seed: CoreRequestContext).

    Attributes:
        merchant_id, order_id, person_id, org_id: ids of the tenant's own; empty when not readable.
        amount_minor: amount in minor units; 0 when it is in doubt.
        currency: ISO 4217 code; empty when it is not known.
        preferences: methods that the payer offers, in order; empty: the merchant's order holds.
        metadata: further text.
        capture: when it is to be taken; None: as the merchant's configuration says.
        country: of the payer, two letters; empty when it is not known.
        bin: first digits of the card number; empty when they were not sent.
        body_key: idempotency key that stood in the body; empty without one.
        body_key_dropped: true when one stood there and held a card number.
        issues: every finding.
        refused: true when what is to be charged is in doubt.
    """

    merchant_id: str = ""
    order_id: str = ""
    person_id: str = ""
    org_id: str = ""
    amount_minor: int = 0
    currency: str = ""
    preferences: tuple[Preference, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    capture: Capture | None = None
    country: str = ""
    bin: str = ""
    body_key: str = ""
    body_key_dropped: bool = False
    issues: tuple[Issue, ...] = field(default=())
    refused: bool = False


def interpret(tree: Object | None, findings: Findings) -> Context:
    """Read a request's tree; None (nothing readable) gives an empty, refused context."""
    if tree is None:
        return Context(issues=tuple(findings.issues), refused=True)
    fields = names.find(tree, "", _REQUEST_FIELDS, findings)
    currency = _currency(fields, findings)
    reader = Reader(currency, findings)
    body_key = _body_key(fields, findings)
    context = Context(
        merchant_id=_id(fields, "merchant_id", findings, required=True),
        order_id=_id(fields, "order_id", findings),
        person_id=_id(fields, "person_id", findings) or ANONYMOUS,
        org_id=_id(fields, "org_id", findings),
        amount_minor=(_amount(fields, reader) if currency else None) or 0,
        currency=currency,
        preferences=_preferences(fields, reader),
        metadata=_metadata(fields, findings),
        capture=_capture(fields, findings),
        country=_country(fields, findings),
        bin=_bin(fields, findings),
        body_key=body_key or "",
        body_key_dropped=body_key is None,
    )
    return with_findings(context, findings)


def with_findings(context: Context, findings: Findings) -> Context:
    """Return the context with every finding that was made so far."""
    return replace(context, issues=tuple(findings.issues), refused=findings.refused)


# ---- texts


def _id(fields: dict[str, Field], name: str, findings: Findings, *, required: bool = False) -> str:
    found = fields.get(name)
    text = _text_of(found, findings) if found else ""
    if found and found.in_doubt:
        return ""
    if found is None or (isinstance(found.value, str) and not text):
        if required:
            findings.refuse(name, "MISSING", f"{name} is missing")
        return ""
    report = findings.refuse if required else findings.warn
    if _holds_card_number(text, ID_MAX):
        report(found.path, "CARD_DATA", f"{name} contained a card number; it was removed")
        return ""
    if not _ID.fullmatch(text):
        report(found.path, "INVALID_ID", f"{name} must be 1 to {ID_MAX} of A-Z a-z 0-9 . _ : -")
        return ""
    return text


def _holds_card_number(text: str, characters_max: int) -> bool:
    """Look no further than where a card number ends that begins in what is kept of the text."""
    return holds_card_number(text[: characters_max + SPAN_MAX])


def _text_of(found: Field, findings: Findings) -> str:
    value = found.value
    if isinstance(value, Number):
        findings.info(found.path, "TEXT_AS_NUMBER", f"{found.path} was sent as a number")
        return value.text
    if not isinstance(value, str):
        return ""
    if value != value.strip():
        findings.info(found.path, "SPACE_AROUND_VALUE", "spaces around the value were removed")
    return value.strip()


def _currency(fields: dict[str, Field], findings: Findings) -> str:
    found = fields.get("currency")
    text = _text_of(found, findings) if found else ""
    if found is None:
        findings.refuse("currency", "MISSING", "currency is missing")
        return ""
    if found.in_doubt:
        return ""
    if text != text.upper():
        findings.info(found.path, "OTHER_SPELLING", "the currency was converted to upper case")
    if text.upper() not in EXPONENTS:
        findings.refuse(found.path, "UNKNOWN_CURRENCY", "the currency is not an ISO 4217 code")
        return ""
    return text.upper()


def _amount(fields: dict[str, Field], reader: Reader) -> int | None:
    sent = _readings(
        fields,
        {"amount": reader.amount, "amount_minor": reader.minor, "amount_cents": reader.cents},
    )
    if not sent:
        reader.findings.refuse("amount", "MISSING", "no amount was sent")
        return None
    if len(set(sent)) > 1:
        reader.findings.refuse("amount", "AMOUNT_CONFLICT", "the amounts that were sent differ")
        return None
    return sent[0]


def _readings(
    fields: dict[str, Field], forms: dict[str, Callable[[str, Tree], int | None]]
) -> list[int | None]:
    return [
        None if fields[name].in_doubt else read(fields[name].path, fields[name].value)
        for name, read in forms.items()
        if name in fields
    ]


# ---- methods


def _preferences(fields: dict[str, Field], reader: Reader) -> tuple[Preference, ...]:
    listed = fields.get("payment_methods")
    alone = [fields[name] for name in ("method", "token") if name in fields]
    if listed and listed.in_doubt:
        return ()
    if listed is None:
        found = _preference(fields, "", reader) if alone else None
        return (found,) if found else ()
    for ignored in alone:
        reader.findings.warn(
            ignored.path,
            "METHOD_IGNORED",
            f"{ignored.path} was ignored because payment_methods was sent",
        )
    return _listed(listed, reader)


def _listed(listed: Field, reader: Reader) -> tuple[Preference, ...]:
    value = listed.value
    if not isinstance(value, list) or not 1 <= len(value) <= PREFERENCES_MAX:
        reader.findings.refuse(
            listed.path, "WRONG_TYPE", f"must be a list of 1 to {PREFERENCES_MAX} methods"
        )
        return ()
    found: list[Preference] = []
    for index, item in enumerate(value):
        path = f"{listed.path}[{index}]"
        entry = Object((("method", item),)) if isinstance(item, str) else item
        if not isinstance(entry, Object):
            reader.findings.refuse(path, "WRONG_TYPE", f"{path} must be an object with a method")
            continue
        inner = names.find(entry, f"{path}.", _PREFERENCE_FIELDS, reader.findings)
        preference = _preference(inner, f"{path}.", reader)
        if preference is not None:
            found.append(preference)
    return tuple(found)


def _preference(fields: dict[str, Field], prefix: str, reader: Reader) -> Preference | None:
    found = fields.get("method")
    if found and found.in_doubt:
        return None
    method = _text_of(found, reader.findings).lower() if found else ""
    if _holds_card_number(method, METHOD_MAX):
        reader.findings.refuse(
            f"{prefix}method", "CARD_DATA", "a card number is not a payment method; it was removed"
        )
        return None
    if not _METHOD.fullmatch(method):
        reader.findings.refuse(
            f"{prefix}method",
            "INVALID_METHOD",
            "the payment method is missing or is not a name such as card",
        )
        return None
    return Preference(
        method,
        _cap(fields, prefix, reader),
        _token(fields, prefix, reader.findings),
        _bin(fields, reader.findings) if prefix else "",
    )


def _cap(fields: dict[str, Field], prefix: str, reader: Reader) -> int | None:
    if not prefix or not reader.currency:
        return None
    stated = fields.get("currency")
    if stated is not None and _text_of(stated, reader.findings).upper() != reader.currency:
        message = f"{stated.path} is not {reader.currency}, the currency of the payment"
        reader.findings.refuse(stated.path, "CURRENCY_CONFLICT", message)
    sent = _readings(fields, {"max_amount": reader.amount, "max_amount_minor": reader.minor})
    if len(set(sent)) > 1:
        reader.findings.refuse(
            f"{prefix}max_amount", "AMOUNT_CONFLICT", "the limits that were sent differ"
        )
    return sent[0] if sent else None


def _token(fields: dict[str, Field], prefix: str, findings: Findings) -> str:
    found = fields.get("token")
    if found is None or found.in_doubt:
        return ""
    text = found.value.text if isinstance(found.value, Number) else found.value
    if isinstance(text, str) and _holds_card_number(text, TOKEN_MAX):
        findings.refuse(
            f"{prefix}token", "CARD_DATA", "a card number is not a token; it was removed"
        )
        return ""
    if isinstance(found.value, str) and _TOKEN.fullmatch(found.value):
        return found.value
    findings.refuse(f"{prefix}token", "INVALID_TOKEN", "the token is not a processor's token")
    return ""


# ---- the rest


def _capture(fields: dict[str, Field], findings: Findings) -> Capture | None:
    """Read when the amount is to be taken: a guess would take what was only to be held."""
    found = fields.get("capture")
    if found is None or found.in_doubt:
        return None
    value = found.value
    if isinstance(value, bool):
        findings.info(found.path, "OTHER_SPELLING", f"{found.path} was sent as a boolean")
        return Capture.AUTOMATIC if value else Capture.MANUAL
    text = _text_of(found, findings).lower()
    if text not in _CAPTURES:
        findings.refuse(found.path, "INVALID_CAPTURE", "capture is automatic or manual")
        return None
    return _CAPTURES[text]


def _country(fields: dict[str, Field], findings: Findings) -> str:
    """Read where the payer is: it chooses processors and no amount, so one that is odd counts as not known."""
    found = fields.get("country")
    if found is None or found.in_doubt:
        return ""
    text = _text_of(found, findings)
    if not _COUNTRY.fullmatch(text.upper()):
        findings.warn(found.path, "INVALID_COUNTRY", "the country is not two letters of ISO 3166-1")
        return ""
    if text != text.upper():
        findings.info(found.path, "OTHER_SPELLING", "the country was converted to upper case")
    return text.upper()


def _bin(fields: dict[str, Field], findings: Findings) -> str:
    """Read how the card's number begins; more digits than tell its issuer are not kept."""
    found = fields.get("bin")
    if found is None or found.in_doubt:
        return ""
    text = _text_of(found, findings)
    if _BIN.fullmatch(text):
        return text
    findings.warn(found.path, "INVALID_BIN", "the beginning of a card number is 4 to 8 digits")
    return ""


def _body_key(fields: dict[str, Field], findings: Findings) -> str | None:
    """Read the key; None when it held a card number.

    Such a key cannot be kept, and without it a repeat with another body would be charged again: refused. So is a
    number that was rounded, since two keys may have become one.
    """
    found = fields.get("idempotency_key")
    if found is None:
        return ""
    text = _text_of(found, findings)
    if not is_kept_whole(text):
        # Two keys that differ there alone would become one.
        message = "the key contains a character that cannot be read or stored; send a UUID"
        findings.refuse(found.path, "INVALID_IDEMPOTENCY_KEY", message)
        return ""
    if _holds_card_number(text, BODY_KEY_MAX):
        findings.refuse(found.path, "CARD_DATA", "the key contained a card number; send a UUID")
        return None
    if isinstance(found.value, Number) and found.value.rounded:
        message = "the key is a number that loses its last digits in transit; send it as a string"
        findings.refuse(found.path, "INVALID_IDEMPOTENCY_KEY", message)
        return ""
    if not 1 <= len(text) <= BODY_KEY_MAX:
        findings.warn(
            found.path, "INVALID_IDEMPOTENCY_KEY", "the key must be a string of 1 to 200 characters"
        )
        return ""
    return text


def _metadata(fields: dict[str, Field], findings: Findings) -> tuple[tuple[str, str], ...]:
    found = fields.get("metadata")
    if found is None:
        return ()
    if not isinstance(found.value, Object):
        findings.warn(found.path, "WRONG_TYPE", "metadata must be an object; it was removed")
        return ()
    kept: dict[str, str] = {}
    changed: list[tuple[str, _Change, str]] = []
    for key, value in _entries(found.path, found.value, findings).items():
        if names_security_code(key):
            message = "a card security code was removed: nobody may store it"
            findings.warn(_path_of(found.path, key), "CARD_DATA", message)
            continue
        text = _metadata_text(_path_of(found.path, key), value, findings)
        change = _change_of(key)
        if text is not None and change is None:
            kept[key] = text
        elif text is not None and change is not None:
            changed.append((key, change, text))
    # Last, so that a key that fits never gives way to one that was changed.
    for key, change, text in changed:
        name = _free(change.name, kept)
        kept[name] = text
        message = f"{change.reason}; the value is kept as {name}"
        findings.warn(_path_of(found.path, key), change.code, message)
    return tuple(sorted(kept.items()))


def _entries(path: str, metadata: Object, findings: Findings) -> dict[str, Tree]:
    entries: dict[str, Tree] = {}
    again: set[str] = set()
    left_out = False
    for key, value in metadata.pairs:
        if value is None:
            continue
        if key in entries:
            again.add(key)
        elif len(entries) == METADATA_MAX:
            left_out = True
            continue
        entries[key] = value
    for key in entries:
        if key in again:
            message = "is given twice; the last one was read"
            findings.warn(_path_of(path, key), "DUPLICATE_FIELD", message)
    if left_out:
        findings.warn(path, "TOO_MUCH_METADATA", f"only {METADATA_MAX} entries were read")
    return entries


def _path_of(path: str, key: str) -> str:
    return f"{path}.{key[: 2 * PATH_MAX]}"


@dataclass(frozen=True, slots=True)
class _Change:
    """Under which name a value is kept, and why not under its own."""

    name: str
    code: str
    reason: str


def _change_of(key: str) -> _Change | None:
    """Return what has to be changed about a metadata key; None when it can be kept as it is."""
    if _holds_card_number(key, METADATA_KEY_MAX):
        return _Change(DROPPED, "CARD_DATA", "the key contained a card number")
    name = storable(key[:METADATA_KEY_MAX])
    if len(key) > METADATA_KEY_MAX:
        reason = f"the key is longer than {METADATA_KEY_MAX} characters"
        return _Change(name, "KEY_TOO_LONG", reason)
    if name != key:
        return _Change(
            name, "INVALID_CHARACTER", "the key contains a character that cannot be stored"
        )
    return None


def _free(name: str, taken: Container[str]) -> str:
    """Return the name, or where it is taken, the name with a number."""
    free, number = name, 1
    while free in taken:
        number += 1
        suffix = f"~{number}"
        free = name[: METADATA_KEY_MAX - len(suffix)] + suffix
    return free


def _metadata_text(path: str, value: Tree, findings: Findings) -> str | None:
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, Number):
        if value.rounded:
            message = "the number loses its last digits in transit; send it as a string"
            findings.warn(path, "NUMBER_ROUNDED", message)
        value = value.text
    if not isinstance(value, str):
        findings.warn(path, "WRONG_TYPE", "metadata values must be strings; the entry was removed")
        return None
    if _holds_card_number(value, METADATA_VALUE_MAX):
        findings.warn(path, "CARD_DATA", "a card number was removed")
        return DROPPED
    if len(value) > METADATA_VALUE_MAX:
        findings.warn(path, "VALUE_TOO_LONG", f"cut off after {METADATA_VALUE_MAX} characters")
    return storable(value[:METADATA_VALUE_MAX])
