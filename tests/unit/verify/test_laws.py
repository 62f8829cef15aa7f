"""Whatever the engine rates, corrects and exports is verified; whatever is changed in it is found."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.billing.domain.corrections import Billed, NothingToAdjust
from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.commissions import Earner
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.pairs import TAKES
from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration
from services.runtime.errors import DomainError
from tests.support.billing import exported
from tests.support.billing.exported import Catalogue, Used
from tests.support.pricing import generated
from tollmesh_verify import Refused, Report, Verdict, seal, verify
from tollmesh_verify.reading import path_below

SLOW = [HealthCheck.filter_too_much, HealthCheck.too_slow]
DISPUTES = st.sampled_from(["", "", "d-1"])
PCTS = st.decimals(0, 100, places=2)
CURRENCIES = st.sampled_from(["USD", "USD", "JPY", "KWD", "CLF"])
# Made once: Hypothesis looks each strategy through before the first draw from it.
PRICES = {name: generated.prices(name) for name in ("", *MODELS)}
RATES = st.dictionaries(st.sampled_from(["", "a"]), PCTS)
PROJECTS = st.sets(st.sampled_from(["", "p", "q"]))
SECONDS = st.lists(st.integers(1, 31 * 86_400 - 1), max_size=3, unique=True)


@st.composite
def catalogues(draw: st.DrawFn, name: str = "", currency_code: str = "") -> Catalogue:
    prices = {sku: draw(PRICES[name]) for sku in draw(st.sampled_from(["a", "ab"]))}
    partner_id = draw(st.sampled_from(["", "north", "south"]))
    takes = frozenset.intersection(*(TAKES[price.model_name] for price in prices.values()))
    return Catalogue(
        prices,
        currency_code or draw(CURRENCIES),
        partner_id,
        draw(RATES) if partner_id else {},
        draw(st.sampled_from([Aggregation.SUM, *sorted(takes)])),
        draw(DISPUTES) if partner_id else "",
        draw(LATER_EARNERS) if partner_id else (),
    )


@st.composite
def later_earners(draw: st.DrawFn) -> tuple[tuple[datetime, Earner | None], ...]:
    seconds = draw(SECONDS)
    found: list[tuple[datetime, Earner | None]] = []
    for second in sorted(seconds):
        at = exported.PERIOD.start_at + timedelta(seconds=second, microseconds=second % 7)
        partner_id = draw(st.sampled_from(["", "north", "west"]))
        earner = Earner(partner_id, "gold", at, draw(RATES), draw(DISPUTES))
        found.append((at, earner if partner_id else None))
    return tuple(found)


LATER_EARNERS = later_earners()


@cache
def events_of(values: tuple[str, ...]) -> st.SearchStrategy[list[tuple[Decimal, str]]]:
    return st.lists(st.tuples(generated.units, st.sampled_from(values)), max_size=6)


@st.composite
def usages(draw: st.DrawFn, catalogue: Catalogue) -> list[Used]:
    found = []
    for sku, price in catalogue.prices.items():
        model = price.stairstep
        values: tuple[str, ...] = generated.VALUES
        if model is not None and model.dimension:
            values = tuple(sorted({unit for stair in model.steps for unit in stair.limits}))
        for project_id in draw(PROJECTS):
            found.append(Used(sku, project_id, tuple(draw(events_of(values)))))
    return found


@st.composite
def ratings(
    draw: st.DrawFn, name: str = "", currency_code: str = "", *, in_parts: bool = False
) -> Any:
    catalogue = draw(catalogues(name, currency_code))
    used = draw(usages(catalogue))
    start_at = exported.PERIOD.start_at
    starts = draw(SECONDS) if in_parts else []
    try:
        return exported.rating(
            catalogue,
            used,
            changes_at=[start_at + timedelta(seconds=at) for at in sorted(starts)],
            proration=draw(st.sampled_from(Proration)) if starts else Proration.NONE,
        )
    except DomainError as refusal:
        assert refusal.reason in {"DIMENSION_NOT_PRICED"}
        assume(False)


def assert_verified(document: dict[str, Any]) -> None:
    report = verify(exported.content(document))
    assert report.verdict is Verdict.VERIFIED, [*report.lines_of_text()]
    assert report.lines == sum(len(each.get("lines", ())) for each in document["charges"])
    assert not report.gaps


@pytest.mark.parametrize("name", sorted(MODELS))
@settings(max_examples=40)
@given(data=st.data())
def test_what_the_engine_rates_is_verified(name: str, data: st.DataObject) -> None:
    assert_verified(exported.tree(exported.charge(data.draw(ratings(name)))))


@settings(max_examples=40)
@given(st.lists(ratings(currency_code="USD"), min_size=2, max_size=4))
def test_what_is_adjusted_and_reversed_is_verified(rated: list[Any]) -> None:
    first, *later = rated
    billed = Billed(exported.charge(first))
    for rating in later:
        try:
            made = exported.adjustment(billed, rating)
        except NothingToAdjust:
            continue
        billed = Billed(billed.base, (*billed.corrections, made))
        assert_verified(exported.tree(*billed.charges))
    assert_verified(exported.tree(*billed.charges, exported.reversal(billed)))


@settings(max_examples=40, suppress_health_check=SLOW)
@given(st.lists(ratings(currency_code="USD", in_parts=True), min_size=2, max_size=4))
def test_what_is_adjusted_and_reversed_is_verified_in_parts(rated: list[Any]) -> None:
    first, *later = rated
    billed = Billed(exported.charge(first))
    for rating in later:
        try:
            made = exported.adjustment(billed, rating)
        except NothingToAdjust:
            continue
        billed = Billed(billed.base, (*billed.corrections, made))
    document = exported.tree(*billed.charges, exported.reversal(billed))
    report = verify(exported.content(document))
    assert not report.findings, [*report.lines_of_text()]
    # A part without a line may be left out, which nothing can tell of the charge of usage.
    assert {gap.place.charge_id for gap in report.gaps} <= {billed.base.charge_id}
    for line in lines_of(document):
        earlier = line["proof"].get("earlier_parts", ())
        if not any(Decimal(part["unrounded"]) >= 1 for part in earlier):
            continue
        del line["proof"]["earlier_parts"]
        document["seal"] = seal(document["charges"])
        assert verify(exported.content(document)).verdict is Verdict.DIFFERENT
        break


def lines_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All lines of all charges."""
    for charge in document["charges"]:
        for item in charge.get("lines", ()):
            yield item["line"]


@st.composite
def in_parts(draw: st.DrawFn, name: str) -> dict[str, Any]:
    catalogue = draw(catalogues(name))
    starts = draw(st.lists(st.integers(1, 31 * 86_400 - 1), min_size=1, max_size=3, unique=True))
    start_at = exported.PERIOD.start_at
    try:
        rated = exported.rating(
            catalogue,
            draw(usages(catalogue)),
            changes_at=[start_at + timedelta(seconds=at) for at in sorted(starts)],
            proration=draw(st.sampled_from(Proration)),
        )
    except DomainError as refusal:
        assert refusal.reason in {"DIMENSION_NOT_PRICED"}
        assume(False)
    made = exported.charge(rated)
    assume(made.lines)
    return exported.tree(made)


@pytest.mark.parametrize("name", sorted(MODELS))
@settings(max_examples=10, suppress_health_check=SLOW)
@given(data=st.data())
def test_each_part_of_a_period_is_verified_with_its_share(name: str, data: st.DataObject) -> None:
    document = data.draw(in_parts(name))
    report = verify(exported.content(document))
    assert not report.findings, [*report.lines_of_text()]
    assert all("the rest has none" in gap.what for gap in report.gaps)
    (charge,) = document["charges"]
    shared = [
        (no, each["line"]["proof"])
        for no, each in enumerate(charge["lines"])
        if "proration" in each["line"]["proof"]
    ]
    assume(shared)
    no, proof = data.draw(st.sampled_from(shared))
    changed = copy.deepcopy(document)
    share = changed["charges"][0]["lines"][no]["line"]["proof"]["proration"]
    name = data.draw(st.sampled_from(["from_units", "until_units", "period_units"]))
    share[name] = str(int(share.get(name, "0")) + data.draw(st.sampled_from([1, 7])))
    changed["seal"] = seal(changed["charges"])
    found = verify(exported.content(changed))
    assert found.verdict is Verdict.DIFFERENT
    assert f"line.proof.proration.{name}" in {finding.field for finding in found.findings}
    assert proof["whole_price"] != proof["price"]
    if proof["proration"].get("from_units", "0") == proof["proration"].get("until_units", "0"):
        return
    for path in shared_amounts(proof["whole_price"]):
        changed = copy.deepcopy(document)
        at = changed["charges"][0]["lines"][no]["line"]["proof"]["whole_price"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = str(Decimal(at[path[-1]]) + 10_000_000)
        changed["seal"] = seal(changed["charges"])
        found = verify(exported.content(changed))
        fields = {finding.field for finding in found.findings}
        assert dotted((0, 0, "lines", 0, "line", "proof", "price", *path)) in fields


def shared_amounts(price: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Paths of what a price asks for or gives by the period."""
    return [
        path
        for path in leaves(price)
        if path[0] in {"included_qty", "minimum_amount", "maximum_amount"}
        or path == ("flat", "amount")
        or path[1:] == ("tiers", 0, "flat_amount")
        or (path[0], path[-1]) == ("stairstep", "amount")
    ]


# ---- Changes


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path


def put(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a document with another value at a path; all else of it is shared."""
    changed = copied_along(document, path)
    read(changed, path[:-1])[path[-1]] = value
    return changed


def copied_along(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Copy what lies on the way to a path: copies of everything take longer than what is tried on them."""
    changed = place = copy.copy(document)
    for key in path[:-1]:
        place[key] = copy.copy(place[key])
        place = place[key]
    return changed


def read(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def with_other_digit(text: str, chance: Random) -> str:
    at = chance.choice([match.start() for match in re.finditer("[0-9]", text)])
    digit = chance.choice([each for each in "0123456789" if each != text[at]])
    return f"{text[:at]}{digit}{text[at + 1 :]}"


def changed_digit(
    document: dict[str, Any], path: tuple[Any, ...], chance: Random
) -> tuple[str, dict[str, Any]]:
    """Change one digit of a value; returns the value as it is written now, and the document."""
    before = read(document, path)
    text = with_other_digit(str(before), chance)
    return text, put(document, path, int(text) if isinstance(before, int) else text)


def digits(document: dict[str, Any], below: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values that have a digit."""
    found = [(*below, *path) for path in leaves(read(document, below))]
    return [path for path in found if re.search("[0-9]", str(read(document, path)))]


@st.composite
def families(draw: st.DrawFn) -> dict[str, Any]:
    parted = draw(st.booleans())
    drawn = ratings(currency_code="USD", in_parts=parted)
    billed = Billed(exported.charge(draw(drawn)))
    assume(billed.base.lines)
    if draw(st.booleans()):
        try:
            made = exported.adjustment(billed, draw(drawn))
            billed = Billed(billed.base, (made,))
        except NothingToAdjust:
            pass
    if draw(st.booleans()):
        return exported.tree(*billed.charges, exported.reversal(billed))
    return exported.tree(*billed.charges)


# Of one file.
CHANGES = 12


@settings(max_examples=40, suppress_health_check=SLOW)
@given(families(), st.randoms(use_true_random=False))
def test_every_changed_digit_is_found_and_named(document: dict[str, Any], chance: Random) -> None:
    paths = digits(document)
    for path in chance.sample(paths, min(CHANGES, len(paths))):
        text, changed = changed_digit(document, path, chance)
        if path == ("format",):
            with pytest.raises(Refused, match="its format is"):
                verify(exported.content(changed))
            continue
        report = verify(exported.content(changed))
        assert report.verdict is Verdict.DIFFERENT
        if path[0] == "seal":
            assert report.findings[0].field.startswith("seal.")
        else:
            assert_named(report, changed, path, text)


def test_another_aggregation_is_named_in_each_line() -> None:
    catalogue = Catalogue(
        {"a": Price(per_unit=PerUnit(Decimal("0.05")))}, aggregation=Aggregation.P50
    )
    used = [Used("a", project_id, ((Decimal(3), ""),)) for project_id in "pq"]
    document = exported.tree(exported.charge(exported.rating(catalogue, used)))
    for number in range(2):
        path = ("charges", 0, "lines", number, "line", "proof", "aggregation")
        for text in ("AGGREGATION_P95", "AGGREGATION_P00"):
            changed = put(document, path, text)
            assert_named(verify(exported.content(changed)), changed, path, text)


def assert_named(report: Report, changed: dict[str, Any], path: tuple[Any, ...], text: str) -> None:
    """The field is named, with its charge and line, what is written there now and what should be."""
    charge = changed["charges"][path[1]]
    line_id = "" if path[2] != "lines" else charge["lines"][path[3]]["line"]["line_id"]
    place = (charge["charge_id"], line_id)
    named = [
        item.written
        for item in report.findings
        if item.field == dotted(path) and (item.place.charge_id, item.place.line_id) == place
    ]
    assert any(same(written, text) for written in named), (path, text, [*report.lines_of_text()])
    assert all(item.recomputed for item in report.findings)


def same(written: str, text: str) -> bool:
    """A value as a finding shows it: cut when it is long, a decimal without its last zeros."""
    if written.endswith("..."):
        return text.startswith(written[:-3])
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) and written != text:
        return re.fullmatch("[-.0-9]+", written) is not None and Decimal(written) == Decimal(text)
    return written == text


def dotted(path: tuple[Any, ...]) -> str:
    """Name a field within its charge, or within its line."""
    told = ""
    for key in path[4:] if path[2] == "lines" else path[2:]:
        told = f"{told}[{key}]" if isinstance(key, int) else path_below(told, key)
    return told


# What is computed, and so is found although the file was sealed anew.
COMPUTED = re.compile(
    r"total\.minor_units|line\.(quantity|exact_amount)|line\.(amount_gross|partner_amount|net)\.minor_units"
    r"|line\.correction\.((partner_)?amount_(before|after)\.minor_units|quantity_(before|after))"
    r"|line\.proof\.(earlier_parts\[\d+\]\.)?(unrounded|billable_quantity|included_qty_used|rounding_places|steps\[\d+\]\..*)"
    r"|postings\[\d+\]\.(amount\.minor_units|(debit|credit)_account_id)"
)


@settings(max_examples=40, suppress_health_check=SLOW)
@given(families(), st.randoms(use_true_random=False))
def test_a_computed_value_is_found_even_when_the_file_is_sealed_anew(
    document: dict[str, Any], chance: Random
) -> None:
    paths = [path for path in digits(document, ("charges",)) if COMPUTED.fullmatch(dotted(path))]
    for path in chance.sample(paths, min(CHANGES, len(paths))):
        text, changed = changed_digit(document, path, chance)
        changed["seal"] = seal(changed["charges"])
        try:
            report = verify(exported.content(changed))
        except Refused as refusal:
            # A zero in front of minor units.
            assert dotted(path) in str(refusal)
            continue
        assert report.verdict is Verdict.DIFFERENT, (path, text)
        assert_named(report, changed, path, text)


@settings(max_examples=40, suppress_health_check=SLOW)
@given(families(), st.randoms(use_true_random=False))
def test_whatever_is_taken_out_is_missed(document: dict[str, Any], chance: Random) -> None:
    for path in chance.sample(paths := [*leaves(document)], min(CHANGES, len(paths))):
        changed = copied_along(document, path)
        del read(changed, path[:-1])[path[-1]]
        try:
            report = verify(exported.content(changed))
        except Refused:
            continue
        assert report.verdict is Verdict.DIFFERENT
