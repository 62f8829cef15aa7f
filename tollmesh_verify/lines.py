"""Lines: what a proof comes to, and what a line makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from types import MappingProxyType
from typing import Any, NamedTuple

from tollmesh_verify import commissions, prices, taxes
from tollmesh_verify.events import sorted_events
from tollmesh_verify.prices import ZERO, NotAPrice, Part, Priced, Sorted
from tollmesh_verify.reading import path_below, shown
from tollmesh_verify.report import Finding, Gap, Place, Report, as_decimal
from tollmesh_verify.shape import decimal, decimals, minor_units_of, moment, optional, whole

# ISO 4217, where there are not two digits after the point.
_CODES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_PLACES = {code: places for places, codes in _CODES.items() for code in codes.split()}
_PLACES_OF_EXACT = 18
_HALF = Fraction(1, 2)
_PROOF = "line.proof"
Message = Mapping[str, Any]
# SKU, project, partner and dispute.
Key = tuple[str, str, str, str]


class Sums(NamedTuple):
    """What was billed of one SKU, project and partner."""

    quantity: Fraction = ZERO
    exact: Fraction = ZERO
    amount: int = 0
    partner_amount: int = 0
    taxes: taxes.Taxes = MappingProxyType({})

    def plus(self, other: Sums) -> Sums:
        """Add them up."""
        return Sums(
            self.quantity + other.quantity,
            self.exact + other.exact,
            self.amount + other.amount,
            self.partner_amount + other.partner_amount,
            taxes.plus(self.taxes, other.taxes),
        )

    def minus(self, other: Sums) -> Sums:
        """Return the difference."""
        return Sums(
            self.quantity - other.quantity,
            self.exact - other.exact,
            self.amount - other.amount,
            self.partner_amount - other.partner_amount,
            taxes.minus(self.taxes, other.taxes),
        )


NOTHING = Sums()


@dataclass(frozen=True)
class Rated:
    """What a proof comes to.

    Attributes:
        sums: of the line, which may be a share of what was priced.
        quantity: of all that was priced.
        amount: of all that was priced, in minor units.
    """

    sums: Sums
    priced: Priced
    quantity: Fraction
    amount: int


class Checker:
    """Compares what is written in one place with what it comes to."""

    def __init__(self, report: Report, place: Place, proof: str = _PROOF) -> None:
        """`proof` is where the proof stands that is compared, in the line."""
        self._report = report
        self._proof = proof
        self.place = place

    def of_earlier_part(self, number: int) -> Checker:
        """Compare an earlier part of the same line, by its number from 0."""
        return Checker(self._report, self.place, f"{_PROOF}.earlier_parts[{number}]")

    def path(self, field: str) -> str:
        """Return where a field of the proof stands; any other stands where it says."""
        if field == _PROOF or field.startswith(f"{_PROOF}."):
            return self._proof + field.removeprefix(_PROOF)
        return field

    def same(self, field: str, written: Any, recomputed: Any) -> None:
        """Note a difference. Decimals are compared as numbers."""
        if written != recomputed:
            self.note(field, written, recomputed)

    def note(self, field: str, written: Any, recomputed: Any) -> None:
        """Note that a value is not what it comes to."""
        told = Finding(self.place, self.path(field), _told(written), _told(recomputed))
        self._report.findings.append(told)

    def gap(self, what: str) -> None:
        """Note that something cannot be verified."""
        self._report.gaps.append(Gap(self.place, what))

    def money(self, field: str, message: Message, currency_code: str, minor_units: int) -> None:
        """Compare an amount."""
        self.same(f"{field}.currency_code", message["currency_code"], currency_code)
        self.same(f"{field}.minor_units", minor_units_of(message), minor_units)


def _told(value: Any) -> str:
    if isinstance(value, Fraction):
        return shown(as_decimal(value))
    return shown(value if isinstance(value, str) else str(value)) or "nothing"


def places_of(currency_code: str) -> int:
    """Return the digits after the point of a currency."""
    return _PLACES.get(currency_code, 2)


def half_up(number: Fraction) -> int:
    """Round to a whole number; an exact half goes away from zero."""
    size = floor(abs(number) + _HALF)
    return -size if number < 0 else size


def partner_share(amount: int, percent: Fraction) -> int:
    """Round a partner's share of minor units; an exact half is not the partner's."""
    share = abs(amount) * percent / 100
    whole_units = floor(share)
    if share - whole_units > _HALF:
        whole_units += 1
    return -whole_units if amount < 0 else whole_units


def parts_of(check: Checker, line: Message) -> list[tuple[Checker, Message]]:
    """Return a line once for each part of the period that it proves, with what compares it; its own part is last."""
    proof = line["proof"]
    earlier = [
        (check.of_earlier_part(number), {**line, "proof": part})
        for number, part in enumerate(proof.get("earlier_parts", ()))
    ]
    return [*earlier, (check, line)]


def check_order(parts: Sequence[tuple[Checker, Message]]) -> None:
    """Each part begins where the one before ends, or later: no usage is in two of them."""
    ended_at: str | None = None
    for check, line in parts:
        start_at = line["proof"]["period"]["start_at"]
        if ended_at is not None and moment(start_at) < moment(ended_at):
            check.note("line.proof.period.start_at", start_at, f"{ended_at} or later")
        ended_at = line["proof"]["period"]["end_at"]


def is_dated(proof: Message) -> bool:
    """True for a proof of an earlier release, which does not tell all that it is computed from."""
    return not proof.get("part_no") or not proof.get("quantity")


# ---- A proof


def rate(line: Message, quantity: Fraction, *, opens: bool) -> tuple[Rated, list[str]]:
    """Compute what a proof comes to, and say what it lacks.

    Raises:
        NotAPrice: the rules have no amount for it.
    """
    proof = line["proof"]
    price = proof["price"]
    lacking: list[str] = []
    part = Part(
        quantity=quantity,
        opens=opens,
        prior=decimal(proof, "prior_quantity"),
        spent=decimal(proof, "prior_amount"),
        quantities=decimals(proof, "quantities"),
        prior_quantities=decimals(proof, "prior_quantities"),
    )
    _check_parts(price, part)
    if prices.looks_at_events(price) and quantity:
        part = replace(part, events=_events(proof, quantity, lacking))
    priced = prices.apply(price, part)
    currency_code = line["amount_gross"]["currency_code"]
    whole_amount = half_up(priced.unrounded * 10 ** places_of(currency_code))
    exact = Fraction(half_up(priced.unrounded * 10**_PLACES_OF_EXACT), 10**_PLACES_OF_EXACT)
    units, exact, amount = commissions.portion(proof, quantity, exact, whole_amount)
    levied = taxes.by_key(
        taxes.of_proof(proof),
        [
            taxes.Levied(*(commissions.whole_portion(proof, number) for number in each))
            for each in taxes.levied(proof, whole_amount)
        ],
    )
    earned_on = amount - taxes.included(levied)
    percent = decimal(line, "partner_pct")
    partner = partner_share(earned_on, percent) if line.get("partner_id") else 0
    return Rated(
        Sums(units, exact, amount, partner, levied), priced, quantity, whole_amount
    ), lacking


def _check_parts(price: Message, part: Part) -> None:
    if quantity_by_value(price):
        for name, parts, whole_of in (
            ("quantities", part.quantities, part.quantity),
            ("prior_quantities", part.prior_quantities, part.prior),
        ):
            if sum(parts.values(), ZERO) != whole_of:
                raise NotAPrice(name, f"must add up to {as_decimal(whole_of)}")
    elif part.quantities or part.prior_quantities:
        raise NotAPrice("quantities", "must be empty: the price has no dimension")
    for name, number in (("quantity", part.quantity), ("prior_quantity", part.prior)):
        if number < 0:
            raise NotAPrice(name, "must not be below zero")


def quantity_by_value(price: Message) -> bool:
    """True for a price that is applied to quantities by value of a dimension."""
    return bool(prices.dimension_of(price))


def _events(proof: Message, quantity: Fraction, lacking: list[str]) -> Sorted:
    told = proof.get("events")
    if told is not None:
        return sorted_events(
            proof["price"]["percentage"],
            told,
            quantity,
            whole(proof, "prior_event_count"),
            decimal(proof, "prior_quantity"),
        )
    lacking.append("its proof does not tell of the events that the price looks at")
    found = {step["kind"]: decimal(step, "units") for step in proof.get("steps", [])}

    def count(kind: str) -> int:
        return floor(found.get(kind, ZERO))

    return Sorted(
        found.get("KIND_FREE", ZERO),
        found.get("KIND_PERCENTAGE", ZERO),
        count("KIND_PER_EVENT"),
        count("KIND_EVENT_MINIMUM"),
        count("KIND_EVENT_MAXIMUM"),
    )


def check_proof(check: Checker, line: Message, period: Message, rated: Rated) -> None:
    """Compare all that a proof writes with what it comes to."""
    proof, priced = line["proof"], rated.priced
    before = "line.proof"
    check.same(f"{before}.included_qty_used", decimal(proof, "included_qty_used"), priced.included)
    check.same(f"{before}.billable_quantity", decimal(proof, "billable_quantity"), priced.billable)
    check.same(f"{before}.unrounded", decimal(proof, "unrounded"), priced.unrounded)
    _check_steps(check, proof.get("steps", []), priced.steps)
    check.same(f"{before}.rounding", proof.get("rounding"), "ROUNDING_HALF_UP")
    places = places_of(line["amount_gross"]["currency_code"])
    check.same(f"{before}.rounding_places", whole(proof, "rounding_places"), places)
    start, end = proof["period"]["start_at"], proof["period"]["end_at"]
    for name, at in (("start_at", start), ("end_at", end)):
        if not moment(period["start_at"]) <= moment(at) <= moment(period["end_at"]):
            check.same(f"{before}.period.{name}", at, period[name])
    _check_sources(check, proof, rated.quantity)
    for field, written, wanted in commissions.faults(line):
        check.note(field, written, wanted)
    taxes.check_proof(check, line, period, rated.amount)


def _check_steps(
    check: Checker, written: Sequence[Message], computed: Sequence[prices.Step]
) -> None:
    check.same("line.proof.steps", f"{len(written)} steps", f"{len(computed)} steps")
    for number, (step, wanted) in enumerate(zip(written, computed, strict=False)):
        before = f"line.proof.steps[{number}]"
        check.same(f"{before}.kind", step["kind"], wanted.kind)
        check.same(f"{before}.label", step.get("label", ""), wanted.label)
        for name, number_wanted in (
            ("from_quantity", wanted.start),
            ("to_quantity", wanted.end),
            ("units", wanted.units),
            ("unit_amount", wanted.each),
            ("flat_amount", wanted.flat),
            ("amount", wanted.amount),
        ):
            check.same(f"{before}.{name}", decimal(step, name), number_wanted)


def _check_sources(check: Checker, proof: Message, quantity: Fraction) -> None:
    """Where usage and plan come from: what of it has to agree with something else."""
    before = "line.proof"
    count = whole(proof, "event_count")
    aggregation = proof.get("aggregation")
    if aggregation == "AGGREGATION_COUNT":
        check.same(f"{before}.event_count", Fraction(count), quantity)
    elif aggregation == "AGGREGATION_UNIQUE":
        _check_distinct(check, quantity, count)
    elif not count and quantity and aggregation != "AGGREGATION_WEIGHTED_SUM":
        # Of these only a level may hold without an event.
        check.note(f"{before}.quantity", quantity, "0, because there are no events")
    first, last = proof.get("first_event_at"), proof.get("last_event_at")
    for name, at in (("first_event_at", first), ("last_event_at", last)):
        check.same(f"{before}.{name}", "there" if at else "absent", "there" if count else "absent")
    if first and last:
        start, end = proof["period"]["start_at"], proof["period"]["end_at"]
        if not moment(start) <= moment(first) <= moment(last):
            check.note(f"{before}.first_event_at", first, f"between {start} and {last}")
        if not moment(first) <= moment(last) < moment(end):
            check.note(f"{before}.last_event_at", last, f"between {first} and {end}")
    is_entitled = proof.get("plan_source") == "PLAN_SOURCE_ENTITLEMENT"
    since = proof.get("entitlement_effective_at")
    field = f"{before}.entitlement_effective_at"
    if not is_entitled:
        check.same(field, since or "", "")
        check.same(f"{before}.overridden", proof.get("overridden", False), False)
    elif since is None:
        check.same(field, "", "a time, because an entitlement gave the plan")
    elif moment(since) > moment(proof["period"]["start_at"]):
        check.note(field, since, f"{proof['period']['start_at']} or earlier")


def _check_distinct(check: Checker, quantity: Fraction, event_count: int) -> None:
    """Check a number of distinct quantities: of events there is one at least, and no more than of events."""
    least = min(event_count, 1)
    if quantity.denominator != 1 or not least <= quantity <= event_count:
        told = f"a whole number from {least} to {event_count}"
        check.note("line.proof.quantity", quantity, told)


# ---- Lines that follow one another


@dataclass
class _Chain:
    """What the parts of a SKU so far came to."""

    part_no: int
    quantity: Fraction
    quantities: dict[str, Fraction]
    event_count: int
    amount: Fraction
    proof: Message


# What is the same in all lines of a charge, and in all lines of a part of its period.
_OF_CHARGE = ("usage_snapshot", "usage_ordinal", "usage_log_root")
_OF_TAX = (
    "taxed_at",
    "country",
    "region",
    "profile_effective_at",
    "tax_id",
    "reverse_charge",
)
_OF_PART = ("plan_id", "plan_version", "plan_source", "entitlement_effective_at")


class Chains:
    """Checks that the parts of a SKU follow one another, and are of one price and one reading of the usage."""

    def __init__(self, *, is_whole: bool) -> None:
        """`is_whole`: all parts of a SKU are there."""
        self._is_whole = is_whole
        self._by_sku: dict[tuple[str, str], _Chain] = {}
        self._first: Message | None = None
        self._first_of_part: dict[str, Message] = {}
        self._shares: dict[tuple[str, str, str], list[Message]] = {}
        self._taxes = taxes.Documents()

    def add(self, check: Checker, line: Message, rated: Rated) -> None:
        """Take the next line."""
        proof = line["proof"]
        self._check_common(check, proof)
        # In each part of a period that several plans rate, a SKU begins anew.
        place = (line["sku"], proof["period"]["start_at"])
        if commissions.stretches_of(proof) and self._is_share_of_known(check, line):
            return
        if self._is_whole:
            self._taxes.add(check, line, rated.amount)
        before = self._by_sku.get(place)
        part_no = whole(proof, "part_no")
        if part_no == 1:
            self._check_prior(check, proof, ZERO, {}, 0, ZERO)
        if before is not None:
            if proof.get("price") != before.proof.get("price"):
                check.note("line.proof.price", "another", "as in the line before it")
            check.same(
                "line.proof.aggregation",
                proof.get("aggregation", "absent"),
                before.proof.get("aggregation", "absent"),
            )
        if self._is_whole:
            check.same("line.proof.part_no", part_no, before.part_no + 1 if before else 1)
        if before is not None and part_no == before.part_no + 1:
            self._check_prior(
                check, proof, before.quantity, before.quantities, before.event_count, before.amount
            )
        self._by_sku[place] = _Chain(
            part_no,
            decimal(proof, "prior_quantity") + rated.quantity,
            _added(decimals(proof, "prior_quantities"), decimals(proof, "quantities")),
            whole(proof, "prior_event_count") + whole(proof.get("events", {}), "event_count"),
            decimal(proof, "prior_amount") + rated.priced.modelled,
            proof,
        )

    def _is_share_of_known(self, check: Checker, line: Message) -> bool:
        """True for a share of a line of which another share came before: it has the same proof, but for who earns."""
        proof = line["proof"]
        key = (line["sku"], line.get("project_id", ""), proof["period"]["start_at"])
        shares = self._shares.setdefault(key, [])
        shares.append(proof)
        if len(shares) == 1:
            return False
        common = commissions.without_commission
        if common(shares[0]) != common(proof):
            check.note("line.proof", "another", "as in the other shares of the line")
        return True

    def _check_common(self, check: Checker, proof: Message) -> None:
        first = self._first = self._first or proof
        of_part = self._first_of_part.setdefault(proof["period"]["start_at"], proof)
        for names, other in ((_OF_CHARGE, first), (_OF_PART, of_part)):
            for name in names:
                check.same(f"line.proof.{name}", proof.get(name, ""), other.get(name, ""))
        told, of_first = proof.get("tax", {}), first.get("tax", {})
        check.same("line.proof.tax", *("there" if each else "absent" for each in (told, of_first)))
        for name in _OF_TAX:
            check.same(f"line.proof.tax.{name}", told.get(name, ""), of_first.get(name, ""))
        end = of_part["period"]["end_at"]
        check.same("line.proof.period.end_at", proof["period"]["end_at"], end)

    def check_parts(self, check: Checker, period: Message) -> None:
        """Say it when the parts whose lines are there do not make up the period: one may have none, or be left out."""
        if self._is_whole:
            for (sku, project_id, _), shares in self._shares.items():
                if not commissions.are_whole(shares):
                    told = " ".join(filter(None, (sku, project_id)))
                    check.note("lines", f"shares of {told}", "shares that make up the period")
        at = period["start_at"]
        for start in sorted(self._first_of_part, key=moment):
            if start != at:
                break
            at = self._first_of_part[start]["period"]["end_at"]
        if self._first_of_part and at != period["end_at"]:
            check.gap(
                "its lines are of a part of its period; that the rest has none cannot be told"
            )

    @staticmethod
    def _check_prior(
        check: Checker,
        proof: Message,
        quantity: Fraction,
        quantities: Mapping[str, Fraction],
        event_count: int,
        amount: Fraction,
    ) -> None:
        before = "line.proof"
        check.same(f"{before}.prior_quantity", decimal(proof, "prior_quantity"), quantity)
        check.same(f"{before}.prior_event_count", whole(proof, "prior_event_count"), event_count)
        check.same(f"{before}.prior_amount", decimal(proof, "prior_amount"), amount)
        written = decimals(proof, "prior_quantities")
        for value in sorted({*written, *quantities}):
            field = path_below(f"{before}.prior_quantities", value)
            check.same(field, written.get(value, ZERO), quantities.get(value, ZERO))


def _added(left: Mapping[str, Fraction], right: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {key: left.get(key, ZERO) + right.get(key, ZERO) for key in {*left, *right}}


# ---- What a line makes of its proof


def check_usage(check: Checker, line: Message, proved: Sums) -> None:
    """Compare a line of usage with what its proof comes to."""
    if "correction" in line:
        check.note("line.correction", "there", "absent: the charge corrects nothing")
    _check_amounts(check, line, proved)
    taxes.check_line(check, line, proved.taxes, None)


def _check_amounts(check: Checker, line: Message, sums: Sums) -> None:
    currency_code = line["amount_gross"]["currency_code"]
    check.same("line.quantity", decimal(line, "quantity"), sums.quantity)
    check.same("line.exact_amount", decimal(line, "exact_amount"), sums.exact)
    check.money("line.amount_gross", line["amount_gross"], currency_code, sums.amount)
    check.money("line.partner_amount", line["partner_amount"], currency_code, sums.partner_amount)
    net = sums.amount - taxes.included(sums.taxes) - sums.partner_amount
    check.money("line.net", line["net"], currency_code, net)
    has_partner, has_pct = bool(line.get("partner_id")), bool(line.get("partner_pct"))
    if has_partner != has_pct:
        check.note("line.partner_pct", line.get("partner_pct", ""), "there with a partner only")
    percent = optional(line, "partner_pct") or ZERO
    if not 0 <= percent <= 100:
        check.note("line.partner_pct", percent, "0 to 100")
    if line.get("dispute_id") and not has_partner:
        check.note("line.dispute_id", line["dispute_id"], "there with a partner only")


def check_correction(
    check: Checker, line: Message, before: Sums, proved: Sums, *, is_reversal: bool
) -> tuple[bool, Sums]:
    """Compare a line of a correction with what was billed before and what its proofs come to.

    Returns whether the proofs are of what is billed now, or of what was because nothing is now; and the difference.
    """
    correction = line.get("correction")
    if correction is None:
        check.note("line.correction", "absent", "there: the charge is a correction")
        return True, sums_of(line)
    after = Sums(
        decimal(correction, "quantity_after"),
        ZERO,
        minor_units_of(correction["amount_after"]),
        minor_units_of(correction["partner_amount_after"]),
    )
    exact = decimal(line, "exact_amount")
    is_gone = is_reversal or (
        not any((after.quantity, after.amount, after.partner_amount))
        and not _fits(proved, after, exact, before)
    )
    now = NOTHING if is_gone else proved
    if is_gone:
        # The proofs are of what had been billed; they have to come to that.
        for name, written, told in zip(
            ("quantity", "exact amount", "amount", "partner's amount"),
            before[:4],
            proved[:4],
            strict=True,
        ):
            check.same(f"line.proof: {name} that was billed", written, told)
        for key in {**before.taxes, **proved.taxes}:
            had, has = (each.taxes.get(key, taxes.NO_TAX).amount for each in (before, proved))
            check.same(f"line.proof: {key.jurisdiction} {key.tax} that was billed", had, has)
    currency_code = line["amount_gross"]["currency_code"]
    for when, sums in (("before", before), ("after", now)):
        field = f"line.correction.quantity_{when}"
        check.same(field, decimal(correction, f"quantity_{when}"), sums.quantity)
        for name, minor_units in (
            (f"amount_{when}", sums.amount),
            (f"partner_amount_{when}", sums.partner_amount),
        ):
            check.money(f"line.correction.{name}", correction[name], currency_code, minor_units)
    difference = now.minus(before)
    _check_amounts(check, line, difference)
    taxes.check_line(check, line, difference.taxes, before.taxes)
    return not is_gone, difference


def _fits(now: Sums, after: Sums, exact: Fraction, before: Sums) -> bool:
    """True when a proof is of what is billed now, which is nothing all the same."""
    return (now.quantity, now.amount, now.partner_amount) == (
        after.quantity,
        after.amount,
        after.partner_amount,
    ) and now.exact - before.exact == exact


def told_before(line: Message, proved: Sums) -> Sums:
    """Return what a correction itself says that had been billed, where the file does not hold it."""
    found = line.get("correction", {})
    if not found:
        return NOTHING
    amount = minor_units_of(found["amount_before"])
    quantity = decimal(found, "quantity_before")
    partner_amount = minor_units_of(found["partner_amount_before"])
    is_gone = not decimal(found, "quantity_after") and not minor_units_of(found["amount_after"])
    now = NOTHING if is_gone else proved
    exact = now.exact - decimal(line, "exact_amount")
    return Sums(quantity, exact, amount, partner_amount, taxes.told_before(line, now.taxes))


def sums_of(line: Message) -> Sums:
    """Return what a line says that it bills."""
    return Sums(
        decimal(line, "quantity"),
        decimal(line, "exact_amount"),
        minor_units_of(line["amount_gross"]),
        minor_units_of(line["partner_amount"]),
        taxes.of_line(line),
    )


def key_of(line: Message) -> Key:
    """Return what sums are kept by."""
    return (
        line["sku"],
        line.get("project_id", ""),
        line.get("partner_id", ""),
        line.get("dispute_id", ""),
    )


# ---- Postings


def check_postings(
    check: Checker, org_id: str, line: Message, sums: Sums, postings: Sequence[Message]
) -> None:
    """Compare what was posted for a line with what it comes to, by the recipe `charge`."""
    wanted = [*_legs(org_id, line, sums)]
    check.same("postings", f"{len(postings)} postings", f"{len(wanted)} postings")
    for number, (posting, (leg, debit, credit, amount)) in enumerate(
        zip(postings, wanted, strict=False)
    ):
        before = f"postings[{number}]"
        check.same(f"{before}.leg", posting.get("leg", ""), leg)
        check.same(f"{before}.debit_account_id", posting["debit_account_id"], debit)
        check.same(f"{before}.credit_account_id", posting["credit_account_id"], credit)
        check.money(
            f"{before}.amount", posting["amount"], line["amount_gross"]["currency_code"], amount
        )


def _legs(org_id: str, line: Message, sums: Sums) -> Iterable[tuple[str, str, str, int]]:
    currency = line["amount_gross"]["currency_code"]
    owed, earned = f"receivable:{org_id}:{currency}", f"revenue:{line['sku']}:{currency}"
    cost, due = f"commission:{currency}", f"payable:partner:{line.get('partner_id', '')}:{currency}"
    name, dispute_id = "partner", line.get("dispute_id", "")
    if dispute_id:
        name, due = "held", f"held:commission:{dispute_id}:{currency}"
    for leg, debit, credit, amount in (
        ("gross", owed, earned, sums.amount - taxes.included(sums.taxes)),
        (name, cost, due, sums.partner_amount),
        *taxes.legs_of(line, owed, sums.taxes),
    ):
        if amount > 0:
            yield leg, debit, credit, amount
        elif amount < 0:
            yield leg, credit, debit, -amount
