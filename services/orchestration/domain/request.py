"""Reads a merchant's request into the strict context that everything behind it works on.

Total: any tree gives a context and findings, never an exception. Source of the shape: seed `ExternalRequest` and
`CoreRequestContext`; docs/guides/payment-requests.md documents the fields and their other spellings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from services.orchestration.domain.amounts import Reader
from services.orchestration.domain.issues import Findings, Issue, storable
from services.orchestration.domain.tree import Number, Object, Tree
from services.runtime.money import EXPONENTS

PREFERENCES_MAX = 20
METADATA_MAX = 50
METADATA_KEY_MAX = 64
METADATA_VALUE_MAX = 500
ANONYMOUS = "anonymous"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TOKEN = re.compile(r"[A-Za-z0-9._:@-]{1,200}")
_DIGITS_LIKE_A_CARD = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")

# Other spellings, after case and punctuation are dropped, by the name of the field.
_SPELLINGS = {
    "merchant_id": ("merchantid", "merchant"),
    "order_id": ("orderid", "order"),
    "person_id": ("personid", "customerid"),
    "amount": ("amount",),
    "amount_minor": ("amountminor",),
    "amount_cents": ("amountcents",),
    "currency": ("currency", "currencycode"),
    "method": ("method", "paymentmethod"),
    "token": ("token", "paymenttoken"),
    "payment_methods": ("paymentmethods", "methods", "splits"),
    "max_amount": ("maxamount",),
    "max_amount_minor": ("maxamountminor",),
    "metadata": ("metadata",),
    "idempotency_key": ("idempotencykey", "requestid"),
}
_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_REQUEST_FIELDS = frozenset(_SPELLINGS) - {"max_amount", "max_amount_minor"}
_PREFERENCE_FIELDS = frozenset({"method", "max_amount", "max_amount_minor", "token"})
_CARD_FIELDS = frozenset({"cardnumber", "pan", "cvv", "cvc", "cvv2", "number", "securitycode"})


@dataclass(frozen=True, slots=True)
class Preference:
    """One method that the payer offers.

    Attributes:
        method: e.g. `card`.
        max_minor: most that may be taken from it, in minor units; None without a limit.
        token: names the instrument; empty for the one that the processor has on file.
    """

    method: str
    max_minor: int | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """The strict reading of a request (seed: CoreRequestContext).

    Attributes:
        merchant_id, order_id, person_id: ids of the tenant's own; empty when not readable.
        amount_minor: amount in minor units; 0 when it is in doubt.
        currency: ISO 4217 code; empty when it is not known.
        preferences: methods that the payer offers, in order; empty: the merchant's order holds.
        metadata: further text.
        body_key: idempotency key that stood in the body; empty without one.
        issues: every finding.
        refused: true when what is to be charged is in doubt.
    """

    merchant_id: str = ""
    order_id: str = ""
    person_id: str = ""
    amount_minor: int = 0
    currency: str = ""
    preferences: tuple[Preference, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    body_key: str = ""
    issues: tuple[Issue, ...] = field(default=())
    refused: bool = False


def interpret(tree: Object | None, findings: Findings) -> Context:
    """Read a request's tree; None (nothing readable) gives an empty, refused context."""
    if tree is None:
        return Context(issues=tuple(findings.issues), refused=True)
    fields = _fields(tree, "", _REQUEST_FIELDS, findings)
    currency = _currency(fields, findings)
    reader = Reader(currency, findings)
    context = Context(
        merchant_id=_id(fields, "merchant_id", findings, required=True),
        order_id=_id(fields, "order_id", findings),
        person_id=_id(fields, "person_id", findings) or ANONYMOUS,
        amount_minor=(_amount(fields, reader) if currency else None) or 0,
        currency=currency,
        preferences=_preferences(fields, reader),
        metadata=_metadata(fields, findings),
        body_key=_body_key(fields, findings),
    )
    return _closed(context, findings)


def with_findings(context: Context, findings: Findings) -> Context:
    """Return the context with findings that were made after it was read."""
    return _closed(context, findings)


def _closed(context: Context, findings: Findings) -> Context:
    return Context(
        context.merchant_id,
        context.order_id,
        context.person_id,
        context.amount_minor,
        context.currency,
        context.preferences,
        context.metadata,
        context.body_key,
        tuple(findings.issues),
        findings.refused,
    )


# ---- fields by name


@dataclass(frozen=True, slots=True)
class _Field:
    path: str
    value: Tree


def _fields(
    tree: Object, prefix: str, known: frozenset[str], findings: Findings
) -> dict[str, _Field]:
    """Find the fields by any of their spellings; the same field twice with two values is in doubt."""
    fields: dict[str, _Field] = {}
    for spelled, value in tree.pairs:
        path = prefix + spelled[:64]
        squashed = re.sub(r"[^a-z0-9]", "", spelled[:64].lower())
        name = _NAMES.get(squashed, "")
        if name not in known:
            _unknown(path, squashed, findings)
            continue
        if spelled != name:
            findings.info(path, "OTHER_SPELLING", f"{path} was read as {name}")
        if name in fields:
            _duplicate(path, name, fields[name].value, value, findings)
        fields[name] = _Field(path, value)
    return fields


def _unknown(path: str, squashed: str, findings: Findings) -> None:
    if squashed in _CARD_FIELDS:
        findings.warn(path, "CARD_DATA", "card data was dropped: send tokens, never numbers")
    else:
        findings.warn(path, "UNKNOWN_FIELD", f"{path} is not a field of a payment request")


def _duplicate(path: str, name: str, before: Tree, value: Tree, findings: Findings) -> None:
    if before == value:
        findings.warn(path, "DUPLICATE_FIELD", f"{name} stands twice with the same value")
    elif name == "metadata":
        findings.warn(path, "DUPLICATE_FIELD", "metadata stands twice; the last one was read")
    else:
        findings.refuse(path, "DUPLICATE_FIELD", f"{name} stands twice with different values")


def _id(fields: dict[str, _Field], name: str, findings: Findings, *, required: bool = False) -> str:
    found = fields.get(name)
    report = findings.refuse if required else findings.warn
    if found is None or found.value is None or found.value == "":
        report(name, "MISSING", f"{name} is missing")
        return ""
    text = _text_of(found, findings)
    if not _ID.fullmatch(text):
        report(found.path, "INVALID_ID", f"{name} must be 1 to 64 of A-Z a-z 0-9 . _ : -")
        return ""
    return text


def _text_of(found: _Field, findings: Findings) -> str:
    value = found.value
    if isinstance(value, Number):
        findings.info(found.path, "TEXT_AS_NUMBER", f"{found.path} was sent as a number")
        return value.text
    if not isinstance(value, str):
        return ""
    if value != value.strip():
        findings.info(found.path, "SPACE_AROUND_VALUE", "spaces around the value were dropped")
    return value.strip()


def _currency(fields: dict[str, _Field], findings: Findings) -> str:
    found = fields.get("currency")
    if found is None or found.value is None:
        findings.refuse("currency", "MISSING", "currency is missing")
        return ""
    text = _text_of(found, findings)
    if text != text.upper():
        findings.info(found.path, "OTHER_SPELLING", "the currency was read in capitals")
    if text.upper() not in EXPONENTS:
        findings.refuse(found.path, "UNKNOWN_CURRENCY", "the currency is not in ISO 4217")
        return ""
    return text.upper()


def _amount(fields: dict[str, _Field], reader: Reader) -> int | None:
    readings: list[int | None] = []
    for name, read in (
        ("amount", reader.amount),
        ("amount_minor", reader.minor),
        ("amount_cents", reader.cents),
    ):
        if name in fields:
            readings.append(read(fields[name].path, fields[name].value))
    if not readings:
        reader.findings.refuse("amount", "MISSING", "no amount was sent")
        return None
    if len(set(readings)) > 1:
        reader.findings.refuse("amount", "AMOUNT_CONFLICT", "the amounts sent differ")
        return None
    return readings[0]


# ---- methods


def _preferences(fields: dict[str, _Field], reader: Reader) -> tuple[Preference, ...]:
    listed = fields.get("payment_methods")
    single = fields.get("method")
    if listed is None or listed.value is None:
        if single is None and "token" not in fields:
            return ()
        found = _preference(fields, "", reader)
        return (found,) if found else ()
    if single is not None:
        reader.findings.warn(
            single.path, "METHOD_IGNORED", "method was ignored, since payment_methods was sent"
        )
    return _listed(listed, reader)


def _listed(listed: _Field, reader: Reader) -> tuple[Preference, ...]:
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
        inner = _fields(entry, f"{path}.", _PREFERENCE_FIELDS, reader.findings)
        preference = _preference(inner, f"{path}.", reader)
        if preference is not None:
            found.append(preference)
    return tuple(found)


def _preference(fields: dict[str, _Field], prefix: str, reader: Reader) -> Preference | None:
    found = fields.get("method")
    method = _text_of(found, reader.findings).lower() if found else ""
    if not _METHOD.fullmatch(method):
        reader.findings.refuse(
            f"{prefix}method",
            "INVALID_METHOD",
            "the payment method is missing or no name such as card",
        )
        return None
    return Preference(method, _cap(fields, prefix, reader), _token(fields, prefix, reader.findings))


def _cap(fields: dict[str, _Field], prefix: str, reader: Reader) -> int | None:
    sent = [name for name in ("max_amount", "max_amount_minor") if name in fields and prefix]
    if not sent or not reader.currency:
        return None
    if len(sent) == 2:
        reader.findings.refuse(f"{prefix}max_amount", "AMOUNT_CONFLICT", "two limits were sent")
        return None
    found = fields[sent[0]]
    read = reader.amount if sent[0] == "max_amount" else reader.minor
    return read(found.path, found.value)


def _token(fields: dict[str, _Field], prefix: str, findings: Findings) -> str:
    found = fields.get("token")
    if found is None or found.value in (None, ""):
        return ""
    if isinstance(found.value, str) and _TOKEN.fullmatch(found.value):
        if not holds_card_number(found.value):
            return found.value
        findings.refuse(f"{prefix}token", "CARD_DATA", "a card number is no token; it was dropped")
        return ""
    findings.refuse(f"{prefix}token", "INVALID_TOKEN", "the token is not a token of a processor")
    return ""


# ---- the rest


def _body_key(fields: dict[str, _Field], findings: Findings) -> str:
    found = fields.get("idempotency_key")
    if found is None or found.value is None:
        return ""
    text = storable(_text_of(found, findings))
    if not 1 <= len(text) <= 200:
        findings.warn(found.path, "INVALID_IDEMPOTENCY_KEY", "the key must be a text of 1 to 200")
        return ""
    return text


def _metadata(fields: dict[str, _Field], findings: Findings) -> tuple[tuple[str, str], ...]:
    found = fields.get("metadata")
    if found is None or found.value is None:
        return ()
    if not isinstance(found.value, Object):
        findings.warn(found.path, "WRONG_TYPE", "metadata must be an object; it was dropped")
        return ()
    kept: dict[str, str] = {}
    for key, value in found.value.pairs:
        path = f"{found.path}.{key[:METADATA_KEY_MAX]}"
        if key in kept:
            findings.warn(path, "DUPLICATE_FIELD", "stands twice; the last one was read")
        text = _metadata_text(path, value, findings)
        if text is not None and (key in kept or len(kept) < METADATA_MAX):
            kept[_scrubbed(path, key[:METADATA_KEY_MAX], findings)] = text
    if len(found.value.pairs) > METADATA_MAX:
        findings.warn(found.path, "TOO_MUCH_METADATA", f"only {METADATA_MAX} entries were read")
    return tuple(sorted(kept.items()))


def _metadata_text(path: str, value: Tree, findings: Findings) -> str | None:
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, Number):
        value = value.text
    if not isinstance(value, str):
        findings.warn(path, "WRONG_TYPE", "metadata holds texts only; the entry was dropped")
        return None
    if len(value) > METADATA_VALUE_MAX:
        findings.warn(path, "VALUE_TOO_LONG", f"cut after {METADATA_VALUE_MAX} characters")
    return _scrubbed(path, value[:METADATA_VALUE_MAX], findings)


def _scrubbed(path: str, text: str, findings: Findings) -> str:
    """Drop what a database text cannot hold, and what looks like a card number."""
    text = storable(text)
    if holds_card_number(text):
        findings.warn(path.split(".", maxsplit=1)[0], "CARD_DATA", "a card number was dropped")
        return "[dropped]"
    return text


def holds_card_number(text: str) -> bool:
    """True when 13 to 19 digits in the text pass the check digit of card numbers (ISO/IEC 7812)."""
    for match in _DIGITS_LIKE_A_CARD.finditer(text):
        digits = [int(digit) for digit in match[0] if digit.isdigit()]
        if not any(digits):
            continue
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
        if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0:
            return True
    return False
