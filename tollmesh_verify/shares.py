"""What is left of a price for a part of a period. What is due or given by the period is shared out by days or seconds.

The part from a to b of a period of D units bears A*b/D - A*a/D of an amount A, each quotient rounded half up to 18
places, and so much of a number of events, each quotient cut to a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tollmesh_verify.lines import Checker
from tollmesh_verify.shape import decimal, instant, whole

Message = Mapping[str, Any]

_SECONDS = {"PRORATION_DAY": 86_400, "PRORATION_SECOND": 1}
_AMOUNTS = ("included_qty", "minimum_amount", "maximum_amount")
_TIERED = ("graduated", "volume", "graduated_percentage")
_SCALE = 10**18
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class _Share:
    start: int
    end: int
    period: int

    def of(self, amount: Fraction) -> Fraction:
        return Fraction(self._up_to(amount, self.end) - self._up_to(amount, self.start), _SCALE)

    def of_count(self, count: int) -> int:
        return count * self.end // self.period - count * self.start // self.period

    def _up_to(self, amount: Fraction, units: int) -> int:
        return (amount * _SCALE * units / self.period + _HALF).__floor__()


def check_share(check: Checker, proof: Message, period: Message) -> None:
    """Compute which share of the charge's period a proof's period is, and what is left of the price for it."""
    share, whole_price = proof.get("proration"), proof.get("whole_price")
    if share is None and whole_price is None:
        return
    if share is None or whole_price is None:
        missing = "proration" if share is None else "whole_price"
        check.note(f"line.proof.{missing}", "", "there, because the price is a share of another")
        return
    seconds = _SECONDS.get(share["unit"])
    if seconds is None:
        check.gap("its price is shared out by units that this verifier does not know")
        return
    computed = _share_of(seconds, period, proof["period"])
    for name, units in (
        ("from_units", computed.start),
        ("until_units", computed.end),
        ("period_units", computed.period),
    ):
        check.same(f"line.proof.proration.{name}", whole(share, name), units)
    _check_price(check, proof["price"], whole_price, computed)


def _share_of(seconds: int, period: Message, part: Message) -> _Share:
    start, end = instant(period["start_at"]), instant(period["end_at"])
    begins, ends = instant(part["start_at"]), instant(part["end_at"])
    units = max(((end - start) / seconds + _HALF).__floor__(), 1)
    until = units if ends == end else min((ends - start) // seconds, units)
    return _Share(min((begins - start) // seconds, units), until, units)


def _check_price(check: Checker, price: Message, whole_price: Message, share: _Share) -> None:
    rest, amounts = _split(price)
    whole_rest, whole_amounts = _split(whole_price)
    before = "line.proof.price"
    if rest != whole_rest or amounts.keys() != whole_amounts.keys():
        check.note(before, "another", "as whole_price, but for what is shared out")
        return
    for path, amount in whole_amounts.items():
        check.same(f"{before}.{path}", amounts[path], share.of(amount))
    if "percentage" in price:
        _check_allowance(check, price["percentage"], whole_price["percentage"], share)


def _check_allowance(check: Checker, model: Message, whole_model: Message, share: _Share) -> None:
    """An allowance ends when either of its bounds is used up, so that neither is left out alone."""
    all_events, all_amount = whole(whole_model, "free_events"), decimal(whole_model, "free_amount")
    events, amount = share.of_count(all_events), share.of(all_amount)
    if (all_events and not events) or (all_amount and not amount):
        events, amount = 0, Fraction(0)
    before = "line.proof.price.percentage"
    check.same(f"{before}.free_events", whole(model, "free_events"), events)
    check.same(f"{before}.free_amount", decimal(model, "free_amount"), amount)


def _split(price: Message) -> tuple[dict[str, Any], dict[str, Fraction]]:
    """Part a price into what holds in each part of a period, and the amounts that are shared out, by path."""
    rest = _without(price, *_AMOUNTS)
    amounts = {name: decimal(price, name) for name in _AMOUNTS if name in price}
    if "flat" in rest:
        amounts["flat.amount"] = decimal(rest["flat"], "amount")
        rest["flat"] = _without(rest["flat"], "amount")
    for name in _TIERED:
        if rest.get(name, {}).get("tiers"):
            first, *others = rest[name]["tiers"]
            amounts[f"{name}.tiers[0].flat_amount"] = decimal(first, "flat_amount")
            rest[name] = {**rest[name], "tiers": [_without(first, "flat_amount"), *others]}
    if "stairstep" in rest:
        steps = rest["stairstep"]["steps"]
        for number, step in enumerate(steps):
            amounts[f"stairstep.steps[{number}].amount"] = decimal(step, "amount")
        steps = [_without(step, "amount") for step in steps]
        rest["stairstep"] = {**rest["stairstep"], "steps": steps}
    if "percentage" in rest:
        rest["percentage"] = _without(rest["percentage"], "free_events", "free_amount")
    return rest, amounts


def _without(message: Message, *names: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in names}
