"""A whole file: its seal, its charges in their order, each line, totals and postings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tollmesh_verify import commissions, lines, sealing, shares, taxes
from tollmesh_verify.lines import Chains, Checker, Message, Rated, Sums
from tollmesh_verify.prices import NotAPrice
from tollmesh_verify.reading import FORMAT, Refused, parse, shown
from tollmesh_verify.report import Finding, Gap, Place, Report
from tollmesh_verify.shape import CHARGE, Problem, decimal, minor_units_of, moment, whole

_CHARGES_MAX = 1_000
_PROBLEMS_MAX = 20
# The recipe whose legs are known here. The second version knows disputes, the third taxes; without, each is as the one
# before.
_RECIPES = {("charge", 1), ("charge", 2), ("charge", 3)}


def verify(content: bytes) -> Report:
    """Verify an exported file.

    Raises:
        Refused: it is none; the message says why.
    """
    tree = parse(content)
    charges = _charges_of(tree)
    report = Report(charges=len(charges))
    sections = [*sealing.sections_of(charges)]
    report.sha256 = sealing.digest(sections)
    report.values = sum(len(section.values) for section in sections)
    report.lines = sum(section.line is not None for section in sections)
    changed = sealing.changes(charges, sections, report.sha256, tree["seal"])
    problems = [
        (number, problem)
        for number, charge in enumerate(charges)
        for problem in CHARGE.problems(charge, "")
    ]
    wrong = [(number, problem) for number, problem in problems if not problem.is_unknown]
    if wrong and not changed:
        raise Refused(_misshapen(*wrong[0]))
    if not wrong:
        for number, problem in problems[:_PROBLEMS_MAX]:
            told = f"{problem.path}: {shown(problem.value)} {problem.must}"
            report.gaps.append(Gap(Place(str(charges[number]["charge_id"])), told))
        _Family(report, charges, sections).check()
    _note_changed(report, charges, changed)
    return report


def _charges_of(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    if tree.get("format") != FORMAT:
        raise Refused(
            f"its format is {shown(tree.get('format'))!r}, and this verifier reads {FORMAT}"
        )
    unknown = sorted(set(tree) - {"format", "charges", "seal"})
    if unknown:
        raise Refused(f"it has {shown(unknown[0])!r}, which no export has")
    charges, seal = tree.get("charges"), tree.get("seal")
    if not isinstance(charges, list) or not charges:
        raise Refused("it has no charges")
    if len(charges) > _CHARGES_MAX:
        raise Refused(f"it has more than {_CHARGES_MAX:,} charges")
    if not isinstance(seal, dict):
        raise Refused("it has no seal")
    for number, charge in enumerate(charges):
        if not isinstance(charge, dict) or not isinstance(charge.get("lines", []), list):
            raise Refused(f"charges[{number}] is no charge")
    return charges


def _misshapen(number: int, problem: Problem) -> str:
    if problem.value is None:
        return f"charges[{number}].{problem.path} {problem.must}"
    return f"charges[{number}].{problem.path}: {shown(problem.value)} {problem.must}"


def _note_changed(
    report: Report, charges: Sequence[Message], changed: Sequence[sealing.Changed]
) -> None:
    """Put what the seal tells in front; where a field was computed too, that says more."""
    known = {(item.place, item.field) for item in report.findings}
    told = []
    for item in changed:
        place = _place(charges, item.charge, item.line)
        if (place, item.field) not in known:
            told.append(Finding(place, item.field, shown(item.written), item.recomputed))
    report.findings[:0] = told


def _place(charges: Sequence[Message], charge: int | None, line: int | None) -> Place:
    if charge is None:
        return Place()
    charge_id = str(charges[charge].get("charge_id", f"number {charge + 1}"))
    if line is None:
        return Place(charge_id)
    found = charges[charge]["lines"][line]
    told = found.get("line", {}) if isinstance(found, dict) else {}
    return _place_of_line(charge_id, told if isinstance(told, dict) else {}, line)


def _place_of_line(charge_id: str, line: Message, number: int) -> Place:
    project_id = line.get("project_id")
    what = f"{line.get('sku', '')}{f' of {project_id}' if project_id else ''}"
    return Place(charge_id, str(line.get("line_id", number + 1)), what)


class _Family:
    """The charges of a file: one, or one and its corrections in their order."""

    def __init__(
        self, report: Report, charges: Sequence[Message], sections: Sequence[sealing.Section]
    ) -> None:
        self._report = report
        self._charges = charges
        self._values = {(section.charge, section.line): section.values for section in sections}
        self._billed: dict[lines.Key, Sums] = {}
        self._transfers: set[str] = set()
        self._has_base = False

    def check(self) -> None:
        """Check all of them."""
        charges = self._charges
        for number, charge in enumerate(charges):
            check = Checker(self._report, Place(charge["charge_id"]))
            self._check_order(check, charges, number)
            told = len(self._report.told)
            sums = self._check_lines(charge, number)
            self._check_charge(check, charge, sums.amount)
            taxes.check_charge(check, charge, sums.taxes, sums.amount)
            total = charge["total"]
            minor, code = minor_units_of(total), total["currency_code"]
            what = f"{charge['org_id']}, total {_money(minor, code)}"
            if "total_with_tax" in charge:
                owed = minor_units_of(charge["total_with_tax"])
                what += f", with tax {_money(owed, code)}"
            self._report.told.insert(told, (check.place, what))

    def _check_order(self, check: Checker, charges: Sequence[Message], number: int) -> None:
        charge, base = charges[number], charges[0]
        kind, adjusts = charge["kind"], charge.get("adjusts_charge_id", "")
        correction_no = whole(charge, "correction_no")
        if kind == "CHARGE_KIND_USAGE":
            self._has_base = self._has_base or number == 0
            check.same("adjusts_charge_id", adjusts, "")
            check.same("correction_no", correction_no, 0)
            if number:
                check.note("kind", kind, "a correction: the file is of one charge")
            return
        if base["kind"] != "CHARGE_KIND_USAGE":
            check.gap("the file does not hold the charge that it corrects")
            return
        check.same("adjusts_charge_id", adjusts, base["charge_id"])
        check.same("correction_no", correction_no, number)
        check.same("org_id", charge["org_id"], base["org_id"])
        for name in ("start_at", "end_at"):
            check.same(f"period.{name}", charge["period"][name], base["period"][name])
        code = charge["total"]["currency_code"]
        check.same("total.currency_code", code, base["total"]["currency_code"])

    # ---- Lines

    def _check_lines(self, charge: Message, place: int) -> Sums:
        """Check the lines of a charge; returns what they come to."""
        is_usage = charge["kind"] == "CHARGE_KIND_USAGE"
        chains = Chains(is_whole=is_usage)
        seen: dict[str, int] = {}
        billed_now: list[tuple[lines.Key, Sums]] = []
        before: tuple[Any, ...] | None = None
        for number, item in enumerate(charge.get("lines", [])):
            line = item["line"]
            check = Checker(self._report, _place_of_line(charge["charge_id"], line, number))
            check.same("line.line_id", line["line_id"], str(number + 1))
            key = lines.key_of(line)
            # A correction has one line for all parts of its period.
            order = _order(line) if is_usage else key
            if before is not None and not before < order:
                check.note("line.sku", " ".join(key), "lines in order, each SKU and project once")
            before = order
            check.same("line.status", line["status"], charge["status"])
            code = charge["total"]["currency_code"]
            check.same(
                "line.amount_gross.currency_code", line["amount_gross"]["currency_code"], code
            )
            position = seen[line["sku"]] = seen.get(line["sku"], 0) + 1
            sums = self._check_line(
                check, charge, line, chains, position, self._values[place, number]
            )
            self._check_postings(check, charge, line, sums, item.get("postings", []))
            billed_now.append((key, sums))
            exact = f"{_short(line['exact_amount'])} {code}"
            gross = _money(minor_units_of(line["amount_gross"]), code)
            told = f"{_short(line['quantity'])} units, exactly {exact}, {gross}"
            if "amount_tax" in line:
                told += f", tax {_money(minor_units_of(line['amount_tax']), code)}"
            self._report.told.append((check.place, told))
        if is_usage:
            chains.check_parts(Checker(self._report, Place(charge["charge_id"])), charge["period"])
        for key, sums in billed_now:
            self._billed[key] = self._billed.get(key, lines.NOTHING).plus(sums)
        total = lines.NOTHING
        for _, sums in billed_now:
            total = total.plus(sums)
        return total

    def _check_line(
        self,
        check: Checker,
        charge: Message,
        line: Message,
        chains: Chains,
        position: int,
        values: Mapping[str, Any],
    ) -> Sums:
        """Check a line; returns what it comes to, or what it says where that cannot be told."""
        is_usage = charge["kind"] == "CHARGE_KIND_USAGE"
        parts = lines.parts_of(check, line)
        if is_usage and len(parts) > 1:
            written = f"{len(parts) - 1} parts"
            check.note("line.proof.earlier_parts", written, "absent: the charge corrects nothing")
        lines.check_order(parts)
        rated: list[Rated] = []
        for of_part, part in parts:
            try:
                rated.append(self._rated(of_part, part, position if is_usage else 0))
            except NotAPrice as error:
                field = f"line.proof.{error.field}"
                written = values.get(of_part.path(field), "as it is")
                of_part.note(field, written, f"what {error.must}")
                return lines.sums_of(line)
            lines.check_proof(of_part, part, charge["period"], rated[-1])
            shares.check_share(of_part, part["proof"], charge["period"])
        proved = lines.NOTHING
        for each in rated:
            proved = proved.plus(each.sums)
        is_now, sums = True, proved
        if is_usage:
            lines.check_usage(check, line, proved)
        elif charge["kind"] in ("CHARGE_KIND_ADJUSTMENT", "CHARGE_KIND_REVERSAL"):
            before = self._before(line, proved)
            is_reversal = charge["kind"] == "CHARGE_KIND_REVERSAL"
            is_now, sums = lines.check_correction(
                check, line, before, proved, is_reversal=is_reversal
            )
        else:
            check.gap("what the charge is for is not known to this verifier")
            sums = lines.sums_of(line)
        if any(lines.is_dated(part["proof"]) for _, part in parts):
            return lines.sums_of(line)
        if is_now:
            for (of_part, part), each in zip(parts, rated, strict=True):
                chains.add(of_part, part, each)
        return sums

    def _rated(self, check: Checker, line: Message, position: int) -> Rated:
        """Compute what one proof comes to.

        Args:
            position: of the line among those of its SKU, from 1; 0 where not all of them are there.

        Raises:
            NotAPrice: the rules have no amount for it.
        """
        proof = line["proof"]
        if lines.is_dated(proof):
            check.gap(
                "its proof was written by an earlier release, and does not tell all that it is computed from"
            )
            return _guessed(line, position)
        opens = whole(proof, "part_no") == 1
        rated, lacking = lines.rate(line, decimal(proof, "quantity"), opens=opens)
        for what in lacking:
            check.gap(what)
        return rated

    def _before(self, line: Message, proved: Sums) -> Sums:
        if self._has_base:
            return self._billed.get(lines.key_of(line), lines.NOTHING)
        return lines.told_before(line, proved)

    def _check_postings(
        self,
        check: Checker,
        charge: Message,
        line: Message,
        sums: Sums,
        postings: Sequence[Message],
    ) -> None:
        for number, posting in enumerate(postings):
            transfer_id = posting["transfer_id"]
            if transfer_id in self._transfers:
                check.note(
                    f"postings[{number}].transfer_id", transfer_id, "the id of one posting only"
                )
            self._transfers.add(transfer_id)
        is_taxed = any(each.amount for each in sums.taxes.values())
        if not postings and not any((sums.amount, sums.partner_amount, is_taxed)):
            return
        recipe = (charge.get("recipe", ""), whole(charge, "recipe_version"))
        if charge["status"] == "CHARGE_STATUS_PENDING":
            check.gap("it is not posted yet")
        elif (
            recipe not in _RECIPES
            or (recipe[1] == 1 and line.get("dispute_id"))
            or (recipe[1] < 3 and is_taxed)
        ):
            told = f"version {recipe[1]} of recipe {shown(recipe[0])}" if recipe[0] else "no recipe"
            check.gap(f"it was posted by {told}, whose legs this verifier does not know")
        else:
            lines.check_postings(check, charge["org_id"], line, sums, postings)

    # ---- The charge

    def _check_charge(self, check: Checker, charge: Message, amount: int) -> None:
        check.money("total", charge["total"], charge["total"]["currency_code"], amount)
        is_reversed = charge["status"] == "CHARGE_STATUS_REVERSED"
        if is_reversed != bool(charge.get("reversed_by_charge_id")):
            wanted = "the id of a charge" if is_reversed else "nothing: it is not reversed"
            check.note("reversed_by_charge_id", charge.get("reversed_by_charge_id", ""), wanted)
        if bool(charge.get("recipe")) != bool(charge.get("posting_id")):
            check.note("posting_id", charge.get("posting_id", ""), "there with a recipe only")
        if charge["kind"] == "CHARGE_KIND_REVERSAL" and self._has_base:
            left = [key for key, sums in self._billed.items() if sums != lines.NOTHING]
            for key in left[:_PROBLEMS_MAX]:
                told = " ".join(filter(None, key))
                check.note("lines", f"not all of {told} is taken back", "all of it")


def _order(line: Message) -> tuple[Any, ...]:
    """Return what orders lines of usage: SKU, project, part of the period, and who earns first in it."""
    proof = line["proof"]
    stretches = commissions.stretches_of(proof)
    first = stretches[0]["start_at"] if stretches else proof["period"]["start_at"]
    return (*lines.key_of(line)[:2], moment(proof["period"]["start_at"]), moment(first))


def _guessed(line: Message, position: int) -> Rated:
    """Compute an earlier release's proof: which part it is of, and of what quantity, is not told.

    `position` of the line among those of its SKU, from 1; 0 where not all of them are there.
    """
    proof = line["proof"]
    found = line.get("correction", {})
    told = [decimal(found, name) for name in ("quantity_after", "quantity_before") if name in found]
    quantities = told or [decimal(line, "quantity")]
    has_prior = any(
        decimal(proof, name) for name in ("prior_quantity", "prior_amount", "prior_event_count")
    )
    choices = [position == 1] if position else [False] if has_prior else [True, False]
    best: Rated | None = None
    failed: NotAPrice | None = None
    for quantity in quantities:
        for opens in choices:
            try:
                rated, _ = lines.rate(line, quantity, opens=opens)
            except NotAPrice as error:
                failed = error
                continue
            best = best or rated
            if _fits(proof, rated):
                return rated
    if best is None:
        raise failed or NotAPrice("price", "must have an amount")
    return best


def _fits(proof: Message, rated: Rated) -> bool:
    return (
        decimal(proof, "unrounded") == rated.priced.unrounded
        and decimal(proof, "billable_quantity") == rated.priced.billable
    )


def _short(text: str) -> str:
    return shown(text.rstrip("0").rstrip(".") if "." in text else text)


def _money(minor_units: int, currency_code: str) -> str:
    places = lines.places_of(currency_code)
    digits = str(abs(minor_units)).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"{'-' if minor_units < 0 else ''}{text} {currency_code}"
