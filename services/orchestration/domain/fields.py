"""Fields of a JSON object by any of their spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.orchestration.domain.issues import PATH_MAX, Findings
from services.orchestration.domain.tree import Object, Tree

NAME_MAX = 64
# Other spellings, after case and punctuation are dropped, by the name of the field.
_SPELLINGS = {
    "merchant_id": ("merchantid", "merchant"),
    "order_id": ("orderid", "order"),
    "person_id": ("personid", "customerid"),
    "org_id": ("orgid", "organizationid", "organisationid"),
    "amount": ("amount",),
    "amount_minor": ("amountminor",),
    "amount_cents": ("amountcents",),
    "currency": ("currency", "currencycode"),
    "minor_units": ("minorunits",),
    "method": ("method", "paymentmethod"),
    "token": ("token", "paymenttoken"),
    "payment_methods": ("paymentmethods", "methods", "splits"),
    "max_amount": ("maxamount",),
    "max_amount_minor": ("maxamountminor",),
    "max_amount_cents": ("maxamountcents",),
    "metadata": ("metadata",),
    "idempotency_key": ("idempotencykey", "requestid"),
    "capture": ("capture", "capturemethod"),
    "country": ("country", "countrycode"),
    "bin": ("bin", "cardbin", "iin"),
}
# Empty values, which senders write for what is absent. An amount that became empty on its way is in doubt.
_EMPTY: tuple[Tree, ...] = ("", [], Object(()))
_AMOUNTS = frozenset(
    {
        "amount",
        "amount_minor",
        "amount_cents",
        "max_amount",
        "max_amount_minor",
        "max_amount_cents",
        "minor_units",
    }
)
_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_SECURITY_CODES = frozenset(
    {
        "cardsecuritycode",
        "cardverificationcode",
        "cardverificationvalue",
        "csc",
        "cvc",
        "cvc2",
        "cvn",
        "cvv",
        "cvv2",
        "securitycode",
    }
)
_CARD_FIELDS = _SECURITY_CODES | {"cardnumber", "number", "pan"}


@dataclass(frozen=True, slots=True)
class Field:
    """A value, and where it stood, in the request's own spelling.

    Attributes:
        path: where the last one stood.
        value: the last one.
        in_doubt: others stood before it, which is why the request is refused: none of them is taken.
    """

    path: str
    value: Tree
    in_doubt: bool = False


def find(
    tree: Object, prefix: str, known: Mapping[str, str], findings: Findings
) -> dict[str, Field]:
    """Find the fields by any of their spellings; the same field twice with two values is in doubt.

    A field that is null is absent, whatever its name, and so is an empty one, unless it stands for an amount. `known`
    gives each name the spelling that is documented where the tree stands. An amount where none is read is in doubt: the
    sender meant it.
    """
    fields: dict[str, Field] = {}
    for spelled, value in tree.pairs:
        if value is None:
            continue
        path = prefix + spelled[: 2 * PATH_MAX]
        name = canonical_name(spelled)
        if name not in known:
            _unknown(path, spelled, value, findings)
            continue
        if value in _EMPTY and name not in _AMOUNTS:
            continue
        if spelled != known[name]:
            findings.info(path, "OTHER_SPELLING", f"{path} was read as {known[name]}")
        before = fields.get(name)
        if before is None:
            fields[name] = Field(path, value)
        else:
            read = _both(path, name, before.value, value, findings)
            differ = before.value != value and name != "metadata"
            fields[name] = Field(path, read, in_doubt=before.in_doubt or differ)
    return fields


def canonical_name(spelled: str) -> str:
    """Return the canonical name of a field in any spelling, or an empty text."""
    return _NAMES.get(_squashed(spelled), "")


def names_security_code(spelled: str) -> bool:
    """Say whether a name, however spelled, is that of the code which proves that a card is at hand."""
    return _squashed(spelled) in _SECURITY_CODES


def _squashed(spelled: str) -> str:
    # No field is spelled longer, and the beginning of a longer name is another name.
    if len(spelled) > NAME_MAX:
        return ""
    return "".join(filter(str.isalnum, spelled.lower()))


def _unknown(path: str, spelled: str, value: Tree, findings: Findings) -> None:
    if _squashed(spelled) in _CARD_FIELDS and value not in _EMPTY:
        findings.warn(path, "CARD_DATA", "card data was removed: send tokens, never card numbers")
    elif canonical_name(spelled) in _AMOUNTS:
        message = f"{path} is ignored here; a method's limit is max_amount, the payment's amount is amount"
        findings.refuse(path, "AMOUNT_AMBIGUOUS", message)
    else:
        findings.warn(path, "UNKNOWN_FIELD", f"{path} is not a field of a payment request")


def _both(path: str, name: str, before: Tree, value: Tree, findings: Findings) -> Tree:
    """Report a field that stands twice, and return what is read of both."""
    if before == value:
        findings.warn(path, "DUPLICATE_FIELD", f"{name} is given twice with the same value")
    elif name != "metadata":
        findings.refuse(path, "DUPLICATE_FIELD", f"{name} is given twice with different values")
    elif isinstance(before, Object) and isinstance(value, Object):
        findings.warn(path, "DUPLICATE_FIELD", "metadata is given twice; both were read")
        return Object(before.pairs + value.pairs)
    else:
        findings.warn(path, "DUPLICATE_FIELD", "metadata is given twice; the last one was read")
    return value
