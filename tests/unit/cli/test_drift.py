"""Log and usage are compared as sets are, however they are ordered and however little memory there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.metering.v1 import drift_pb2, metering_pb2

from services.cli.commands import reconcile
from services.cli.drift import (
    DETAIL_CHARS_MAX,
    Bounds,
    Comparison,
    Entry,
    Finding,
    Kind,
    entry_of,
    grouped,
    microseconds,
)
from services.cli.sorting import Sorter
from services.cli.unusual import DAYS_MIN, unusual
from services.cli.usage_sides import _unlike

START = datetime(2026, 11, 20, tzinfo=UTC)
DAY_US = 86_400_000_000
BOUNDS = Bounds(microseconds(START), microseconds(START) + DAY_US, 3_600_000_000, 1_000_000)
SMALL = {"run_lines": 3, "runs_max": 2}


def entry(request_id: str, **changes: object) -> Entry:
    plain = Entry(request_id, "acme", "web", "api.calls", "1", BOUNDS.start_us + 60_000_000)
    return replace(plain, **changes)  # type: ignore[arg-type] # names and values of a test


def compared(
    logged: Iterable[Entry],
    stored: Iterable[Entry],
    rejected: Iterable[Entry] = (),
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> tuple[list[Finding], Comparison]:
    with Comparison(BOUNDS, **sizes) as comparison:
        for item in logged:
            comparison.add_logged(item)
        for item in stored:
            comparison.add_stored(item)
        for item in rejected:
            comparison.add_rejected(item)
        comparison.compare()
        return list(comparison.findings()), comparison


# ---- Sorting


@given(
    lines=st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line), max_size=60),
    run_lines=st.integers(1, 9),
    runs_max=st.integers(2, 4),
)
def test_lines_come_back_in_order_and_again(
    lines: list[bytes], run_lines: int, runs_max: int
) -> None:
    with Sorter(run_lines, runs_max) as sorter:
        for line in lines:
            sorter.add(line)
        assert sorter.count == len(lines)
        assert list(islice(sorter.lines(), 3)) == sorted(lines)[:3]
        assert list(sorter.lines()) == list(sorter.lines()) == sorted(lines)


def test_few_files_are_open_however_many_lines_there_are() -> None:
    with Sorter(run_lines=2, runs_max=4) as sorter:
        for number in range(4_000):
            sorter.add(b"%d" % (number * 7919 % 4_000))
        # Runs of each of the sizes 2, 8, 32, …: three at most.
        assert sum(map(len, sorter._levels)) <= 3 * len(sorter._levels) <= 18
        assert list(sorter.lines()) == sorted(b"%d" % number for number in range(4_000))


# ---- Comparing


IDS = st.sampled_from("abcdefgh")
SIDES = st.dictionaries(IDS, st.sampled_from(["1", "2"]), max_size=8)


@given(logged=SIDES, stored=SIDES, rejected=st.sets(IDS), cancelled=st.sets(IDS), data=st.data())
def test_what_is_found_is_what_sets_say(
    logged: dict[str, str],
    stored: dict[str, str],
    rejected: set[str],
    cancelled: set[str],
    data: st.DataObject,
) -> None:
    log = data.draw(st.permutations([entry(name, quantity=text) for name, text in logged.items()]))
    kept = [
        entry(name, quantity=text, note="cancelled" if name in cancelled else "")
        for name, text in stored.items()
    ]
    found, comparison = compared(
        log, data.draw(st.permutations(kept)), map(entry, sorted(rejected)), SMALL
    )
    alive = stored.keys() - cancelled
    unstored = logged.keys() - stored.keys()
    naive = {
        Kind.MISSING: unstored - rejected,
        Kind.REJECTED: unstored & rejected,
        Kind.CANCELLED: logged.keys() & stored.keys() & cancelled,
        Kind.EXTRA: alive - logged.keys(),
        Kind.DIFFERING: {name for name in alive & logged.keys() if logged[name] != stored[name]},
    }
    assert {
        kind: {item.request_id for item in found if item.kind is kind} for kind in naive
    } == naive
    assert len(found) == sum(map(len, naive.values()))
    same = {name for name in alive & logged.keys() if logged[name] == stored[name]}
    assert comparison.counts.matched == len(same)
    assert comparison.counts.logged == len(logged)
    assert comparison.counts.stored == len(alive)


@given(st.lists(st.tuples(IDS, st.sampled_from(["1", "2"])), max_size=12))
def test_the_size_of_memory_changes_nothing(rows: list[tuple[str, str]]) -> None:
    log = [entry(name, quantity=text) for name, text in rows]
    large, _ = compared(log, [entry("a")])
    small, comparison = compared(log, [entry("a")], sizes=SMALL)
    assert small == large
    assert comparison.counts.logged == len(rows)


def test_a_row_that_stands_twice_is_one_unless_it_says_something_else() -> None:
    found, _ = compared([entry("a"), entry("a"), entry("b"), entry("b", sku="other")], [entry("a")])
    assert [(item.kind, item.request_id) for item in found] == [
        (Kind.MISSING, "b"), (Kind.REPEATED, "b"),
    ]  # fmt: skip
    assert found[1].detail == "sku api.calls ≠ other"


def test_the_other_half_is_looked_for_near_the_period() -> None:
    edge, second = BOUNDS.end_us, 1_000_000
    log = [entry("late", at_us=edge - 1), entry("far", at_us=edge - 1), entry("near", at_us=edge)]
    stored = [
        entry("late", at_us=edge + 5 * second),
        entry("far", at_us=edge + 2 * 3600 * second),
        entry("near", at_us=edge - second),
        entry("outside", at_us=edge + second),
    ]
    found, comparison = compared(log, stored)
    assert [(item.kind, item.request_id) for item in found] == [
        (Kind.MISSING, "far"), (Kind.DIFFERING, "late"),
    ]  # fmt: skip
    assert found[1].detail.startswith("time 2026-11-20T23:59:59.999999Z ≠ 2026-11-21T00:00:05Z")
    assert (comparison.counts.logged, comparison.counts.stored) == (2, 1)


def test_a_log_without_projects_says_nothing_of_them() -> None:
    found, _ = compared([entry("a", project_id=""), entry("b", project_id="x")], map(entry, "ab"))
    assert [item.detail for item in found] == ["project_id x ≠ web"]


def test_findings_add_up_by_day() -> None:
    log = [entry(f"{number:02}", quantity="0.1") for number in range(30)]
    log.append(entry("x", org_id="beta"))
    found, _ = compared(log, [])
    first, second = grouped(found)
    assert (first.events, first.logged, first.stored) == (30, "3", "")
    assert first.detail == "00, 01, 02, and 27 more"
    assert (second.org_id, second.day) == ("beta", date(2026, 11, 20))
    with Comparison(BOUNDS) as comparison:
        for item in log:
            comparison.add_logged(item)
        assert list(comparison.organisations()) == ["acme", "beta"]


@pytest.mark.parametrize("quantity", ["", "-1", "1e999999", "NaN", "1" * 16, "x"])
def test_a_quantity_that_could_not_be_stored_is_told(quantity: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        entry_of(metering_pb2.UsageEvent(request_id="a", quantity=quantity))


def test_the_same_findings_are_the_same_call() -> None:
    calls: list[object] = []

    class Stub:
        def __init__(self, *_: object) -> None:
            self.ReportUsageDrift = "report"

    class Client:
        def stub(self, _: object) -> Stub:
            return Stub()

        def call(self, _: object, request: object) -> object:
            calls.append(request)
            return drift_pb2.ReportUsageDriftResponse(
                reported=len(request.findings)  # type: ignore[attr-defined] # the one message that is sent
            )

    log = [
        entry(f"{number}", sku=f"s{number}") for number in range(reconcile.FINDINGS_PER_CALL + 1)
    ]
    for order in (log, log[::-1]):
        found, _ = compared(order, [])
        assert reconcile.tell(Client(), "p", grouped(found)) == len(log)  # type: ignore[arg-type] # all of a client that is called
    assert calls[:2] == calls[2:]
    assert len({item.request_id for item in calls}) == 2  # type: ignore[attr-defined] # the one message that is sent


def test_details_are_bounded() -> None:
    found, _ = compared([entry("x" * 128 + str(number)) for number in range(9)], [])
    (group,) = grouped(found)
    assert len(group.detail) <= DETAIL_CHARS_MAX


# ---- Unusual days


AMOUNTS = st.decimals(0, 10**6, places=2)


def decimals(*values: float) -> list[Decimal]:
    return [Decimal(str(value)) for value in values]


@pytest.mark.parametrize(
    ("value", "earlier", "score"),
    [
        (100, [10, 11, 9, 10, 12, 8, 10], 1),
        (0, [10, 11, 9, 10, 12, 8, 10], -1),
        (13, [10, 11, 9, 10, 12, 8, 10], 0),
        # One wild day in the past moves neither median nor MAD.
        (100, [10, 11, 9, 10, 12, 8, 5000], 1),
        # Nearly the same each day: some per cent more is no finding.
        (1010, [1000] * 10, 0),
        (1300, [1000] * 10, 1),
        # Most days without any: by the mean deviation.
        (500, [0, 0, 0, 0, 0, 0, 0, 10], 1),
        (5, [0] * 10, 0),
        # Too few days to say.
        (10**6, [1] * (DAYS_MIN - 1), 0),
    ],
)
def test_a_day_is_held_against_those_before_it(
    value: float, earlier: list[float], score: int
) -> None:
    found = unusual(Decimal(value), decimals(*earlier))
    sign = 0 if found is None else 1 if found.score > 0 else -1
    assert sign == score


def test_weekends_are_no_findings() -> None:
    week = [100, 101, 99, 102, 98, 20, 21]
    assert unusual(Decimal(20), decimals(*(week * 4 + week[:5]))) is None
    assert unusual(Decimal(20), decimals(*(week * 4 + week[:3]))) is not None


@given(earlier=st.lists(AMOUNTS, min_size=DAYS_MIN, max_size=40), value=AMOUNTS)
def test_units_change_nothing(earlier: list[Decimal], value: Decimal) -> None:
    found = unusual(value, earlier)
    scaled = unusual(value * 1000, [item * 1000 for item in earlier])
    assert (found is None) == (scaled is None)
    assert found is None or found.expected * 1000 == scaled.expected  # type: ignore[union-attr] # both are found, or neither is


def days(values: Iterable[int]) -> Iterator[tuple[date, Decimal]]:
    for number, value in enumerate(values):
        yield (START + timedelta(days=number - 30)).date(), Decimal(value)


def test_a_sku_has_no_days_before_its_first_use() -> None:
    values = dict(days([5] * 30 + [50]))
    bounds = (START, START + timedelta(days=1), 28, Decimal("3.5"))
    (found,) = _unlike("acme", "api.calls", values, *bounds)
    assert (found.kind, found.logged, found.stored) == (Kind.SPIKE, "5", "50")
    few = dict(list(values.items())[-4:])
    assert not list(_unlike("acme", "api.calls", few, *bounds))
    gone = dict(list(values.items())[:-1])
    (dropped,) = _unlike("acme", "api.calls", gone, *bounds)
    assert (dropped.kind, dropped.stored) == (Kind.DROP, "0")
    assert Counter(item.kind for item in (found, dropped)) == {Kind.SPIKE: 1, Kind.DROP: 1}
