"""Who earns on a line: by which rate, and, where that changes inside the period, on which share of the line.

Of a quantity or an amount A the stretch from a to b of a period of D has A*b/D - A*a/D, each quotient rounded half up,
the amount to the minor unit and the others to 18 places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from tollmesh_verify.shape import instant

Message = Mapping[str, Any]

_SCALE = 10**18
_HALF = Fraction(1, 2)


def stretches_of(proof: Message) -> Sequence[Message]:
    """Return the stretches of the period whose share the line is; none: it is of all of it."""
    found: Sequence[Message] = proof.get("commission", {}).get("stretches", [])
    return found


def portion(
    proof: Message, quantity: Fraction, exact: Fraction, amount: int
) -> tuple[Fraction, Fraction, int]:
    """Return what of a line belongs to its stretches."""
    found = stretches_of(proof)
    if not found:
        return quantity, exact, amount
    bounds = _bounds(proof)
    minor_units = _sum(bounds, Fraction(amount), 1)
    return _sum(bounds, quantity, _SCALE), _sum(bounds, exact, _SCALE), int(minor_units)


def whole_portion(proof: Message, number: int) -> int:
    """Return what of a whole number of a line belongs to its stretches."""
    if not stretches_of(proof):
        return number
    return int(_sum(_bounds(proof), Fraction(number), 1))


def _bounds(proof: Message) -> list[tuple[Fraction, Fraction]]:
    return [
        (_share_until(proof, each["start_at"]), _share_until(proof, each["end_at"]))
        for each in stretches_of(proof)
    ]


def _share_until(proof: Message, at: str) -> Fraction:
    start, end = instant(proof["period"]["start_at"]), instant(proof["period"]["end_at"])
    return (instant(at) - start) / (end - start) if end > start else Fraction(0)


def _sum(bounds: Sequence[tuple[Fraction, Fraction]], amount: Fraction, scale: int) -> Fraction:
    found = sum(
        (amount * scale * end + _HALF).__floor__() - (amount * scale * start + _HALF).__floor__()
        for start, end in bounds
    )
    return Fraction(found, scale)


def without_commission(proof: Message) -> Message:
    """Return what all shares of a line have in common.

    Of a correction each share names the parts of the period that it is of, and each of these is compared by itself.
    """
    return {
        name: value for name, value in proof.items() if name not in {"commission", "earlier_parts"}
    }


def faults(line: Message) -> list[tuple[str, Any, str]]:
    """Return what of the rule does not fit the line: field, what is written, what it must be."""
    proof = line["proof"]
    rule = proof.get("commission")
    if rule is None:
        # A proof of an earlier release does not name the rule.
        return []
    found: list[tuple[str, Any, str]] = []
    before, has_partner = "line.proof.commission", bool(line.get("partner_id"))
    if bool(rule.get("partner_tier")) != has_partner:
        found.append(
            (f"{before}.partner_tier", rule.get("partner_tier", ""), "there with a partner only")
        )
    if rule.get("billing_account_id") and not has_partner:
        found.append(
            (
                f"{before}.billing_account_id",
                rule["billing_account_id"],
                "there with a partner only",
            )
        )
    if rule.get("rate_sku", "") not in ("", line["sku"]):
        found.append((f"{before}.rate_sku", rule["rate_sku"], f"{line['sku']}, or empty"))
    stretches = stretches_of(proof)
    first = stretches[0]["start_at"] if stretches else proof["period"]["start_at"]
    since = rule.get("record_start_at")
    if has_partner and (since is None or instant(since) > instant(first)):
        found.append((f"{before}.record_start_at", since or "", f"{first} or earlier"))
    at = instant(proof["period"]["start_at"])
    for number, stretch in enumerate(stretches):
        start, end = instant(stretch["start_at"]), instant(stretch["end_at"])
        if not at <= start < end <= instant(proof["period"]["end_at"]):
            told = f"{stretch['start_at']} to {stretch['end_at']}"
            found.append(
                (f"{before}.stretches[{number}]", told, "in the period, one behind the other")
            )
        at = end
    return found


def are_whole(proofs: Sequence[Message]) -> bool:
    """True when the stretches of all shares of a line make up its period."""
    found = sorted(
        (instant(each["start_at"]), instant(each["end_at"]))
        for proof in proofs
        for each in stretches_of(proof)
    )
    at = instant(proofs[0]["period"]["start_at"])
    for start, end in found:
        if start != at:
            return False
        at = end
    return at == instant(proofs[0]["period"]["end_at"])
