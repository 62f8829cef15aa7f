"""The short way of the hot loop holds to the rules of the descriptor."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_pb2

from services.metering.domain.events import Batch, Policy, canonical_quantity, digest
from services.metering.domain.times import microseconds
from services.metering.messages import intake
from services.metering.store import events as store
from services.runtime.edge.validation import violations
from tests.support.billing.metering import NOW, event

NOW_US = microseconds(NOW)
SKUS = {"llm.tokens", "a:b-c_d", "x" * 64}
POLICY = Policy(NOW_US - 10**9, NOW_US + 10**6, SKUS)

# Near the borders of every rule, on both sides, and anything at all.
GOOD_IDS = st.sampled_from(["a", "A:b-c_d.9", "x" * 64])
IDS = st.one_of(
    st.sampled_from(["", "x" * 65, "a b", "ä", "a\tb", "a\n", "a\\b", "\t"]), st.text(max_size=3)
)
GOOD_TEXTS = st.one_of(
    st.sampled_from(["e", "x" * 128, "ä" * 128, "a\tb", "a\\N", "\\N", "\n", "\r", "\x7f"]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=128),
)
TEXTS = st.one_of(st.sampled_from(["", "x" * 129, "ä" * 129, "a\0", "\0"]), st.text(max_size=130))
GOOD_QUANTITIES = st.one_of(
    st.sampled_from(["0", "007", "1.50", "0.0", "00.10", "9" * 15, "1." + "1" * 18]),
    st.decimals(0, 10**14, places=4).map(lambda value: f"{value:f}"),
)
QUANTITIES = st.one_of(
    st.sampled_from(["", "-1", "-0", "+1", "1.", ".5", "1e3", "NaN", "१", "1\n", " 1", "1,5"]),
    st.sampled_from(["9" * 16, "1." + "1" * 19]),
    st.text("0123456789.-e", max_size=20),
)
LABEL = st.one_of(
    st.sampled_from(["", "v", "x" * 256, "\\", '"', "\t", "ä" * 256]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9),
)
GOOD_LABELS: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}), st.dictionaries(GOOD_IDS, LABEL, max_size=3)
)
LABELS = st.one_of(
    st.dictionaries(IDS, LABEL, max_size=3),
    st.dictionaries(GOOD_IDS, st.sampled_from(["\0", "x" * 257]), max_size=3),
    st.integers(15, 18).map(lambda count: {f"k{number}": "" for number in range(count)}),
)
GOOD_OFFSETS_US = st.sampled_from([0, -(10**9), 10**6, 1, -1])
OFFSETS_US = st.sampled_from([-(10**9) - 1, 10**6 + 1, -(10**18), 10**18])
FIELDS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "request_id": (GOOD_TEXTS, TEXTS),
    "org_id": (GOOD_IDS, IDS),
    "project_id": (st.one_of(st.just(""), GOOD_IDS), IDS),
    "sku": (st.sampled_from(sorted(SKUS)), st.one_of(st.just("other"), IDS)),
    "quantity": (GOOD_QUANTITIES, QUANTITIES),
    "source": (st.sampled_from([0, 1, 2, 3]), st.sampled_from([4, -1, 2**31 - 1])),
    "metadata": (GOOD_LABELS, LABELS),
    "offset_us": (GOOD_OFFSETS_US, OFFSETS_US),
    "extra_nanos": (st.sampled_from([0, 999]), st.sampled_from([10**9, -(10**9)])),
}
# By how many there may be. Made once: Hypothesis looks each strategy through before the first draw from it.
ODD = {
    odd_max: st.sets(st.sampled_from([*FIELDS, "event_time"]), max_size=odd_max)
    for odd_max in range(3)
}


@st.composite
def events(draw: st.DrawFn, *, odd_max: int = 2) -> metering_pb2.UsageEvent:
    """A valid event in which up to `odd_max` fields are anything that a message can hold."""
    odd = draw(ODD[odd_max])
    values = {name: draw(pair[name in odd]) for name, pair in FIELDS.items()}
    offset_us, extra_nanos = values.pop("offset_us"), values.pop("extra_nanos")
    made = metering_pb2.UsageEvent(**values)
    if "event_time" not in odd:
        made.event_time.seconds, rest = divmod(NOW_US + offset_us, 10**6)
        made.event_time.nanos = rest * 1000 + extra_nanos
    return made


def judged(*items: metering_pb2.UsageEvent, policy: Policy = POLICY) -> Batch:
    """Judge a batch."""
    batch = Batch(size=len(items))
    intake.judge_slice(batch, items, 0, policy)
    return batch


def read_copy(line: str) -> list[str | None]:
    """Read a line as Postgres reads COPY text."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    unescaped = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}

    def value(text: str) -> str | None:
        if text == "\\N":
            return None
        out, rest = "", text
        while rest:
            taken = rest[:2] if rest[0] == "\\" else rest[0]
            out += unescaped[taken] if taken[0] == "\\" else taken
            rest = rest[len(taken) :]
        return out

    return [value(field) for field in line[:-1].split("\t")]


@settings(max_examples=2000, deadline=None)
@given(events())
def test_an_event_is_taken_exactly_when_the_rules_allow_it(item: metering_pb2.UsageEvent) -> None:
    at_us = item.event_time.seconds * 10**6 + item.event_time.nanos // 1000
    allowed = (
        not violations(item)
        and 0 <= item.event_time.nanos < 10**9
        and POLICY.earliest_us <= at_us <= POLICY.latest_us
        and item.sku in SKUS
    )
    batch = judged(item)
    assert (len(batch.rows), len(batch.rejections)) == ((1, 0) if allowed else (0, 1))


@settings(max_examples=1000, deadline=None)
@given(events(odd_max=0))
def test_a_line_says_what_the_event_said(item: metering_pb2.UsageEvent) -> None:
    (row,) = judged(item).rows
    line = store.copy_text([row])
    # A handful is not copied, and means the same.
    assert store._values(row) == read_copy(line)
    request_id, org_id, project_id, sku, quantity, at_us, source, metadata, key, _ = read_copy(line)
    assert request_id == item.request_id
    assert (org_id, project_id, sku) == (item.org_id, item.project_id, item.sku)
    assert quantity == canonical_quantity(item.quantity)
    assert at_us == str(item.event_time.seconds * 10**6 + item.event_time.nanos // 1000)
    assert source == str(item.source or metering_pb2.SOURCE_BACKEND)
    assert (json.loads(metadata) if metadata else {}) == dict(item.metadata)
    assert key == digest(item.request_id)


@settings(max_examples=500, deadline=None)
@given(events(odd_max=0))
def test_both_ways_give_the_same_line(item: metering_pb2.UsageEvent) -> None:
    slow = Batch(size=1)
    intake._take_slowly(slow, 0, item, POLICY)
    fast = judged(item)
    assert fast.rows == slow.rows


def test_plain_events_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a plain event took the long way")

    monkeypatch.setattr(intake, "_take_slowly", refuse)
    plain = event("code-00017/llm.tokens", quantity="1.50", metadata={"model": "gpt 5"})
    assert len(judged(plain, event("b", quantity="0")).rows) == 2


def test_each_change_of_content_changes_the_fingerprint() -> None:
    base: dict[str, Any] = {"metadata": {"a": "1"}}
    changes: list[dict[str, Any]] = [
        {},
        {"org_id": "chat2"},
        {"project_id": ""},
        {"sku": "a:b-c_d"},
        {"quantity": "12.51"},
        {"source": metering_pb2.SOURCE_REPLAY},
        {"metadata": {}},
        {"metadata": {"a": "2"}},
        {"metadata": {"b": "1"}},
    ]
    prints = {judged(event("e", **{**base, **change})).fingerprints[0] for change in changes}
    assert len(prints) == len(changes)


def test_an_absent_time_is_not_1970_however_wide_the_window() -> None:
    century = Policy(-(10**15), NOW_US, SKUS)
    timed = event("timed", at=None)
    timed.event_time.seconds = 0
    batch = judged(event("untimed", at=None), timed, policy=century)
    assert [rejection.request_id for rejection in batch.rejections] == ["untimed"]
    assert list(batch.first_index) == ["timed"]


def test_repeats_within_a_batch_have_one_line() -> None:
    batch = judged(event("a"), event("b"), event("a", quantity="2"), event("a"))
    assert len(batch.rows) == len(batch.first_index) == 2
    assert [repeat.index for repeat in batch.repeats] == [2, 3]
    assert batch.repeats[0].fingerprint != batch.fingerprints[0] == batch.repeats[1].fingerprint


def test_a_rejected_event_claims_no_id() -> None:
    batch = judged(event("a", quantity="-1"), event("a"))
    assert [rejection.index for rejection in batch.rejections] == [0]
    assert batch.first_index == {"a": 1}
    assert not batch.repeats


async def test_a_long_batch_is_judged_in_slices_without_a_gap() -> None:
    items = [event(f"e-{number}") for number in range(2501)]
    batch = await intake.judge(items, POLICY)
    assert list(batch.first_index.values()) == list(range(2501))


async def test_events_that_take_long_hold_up_nobody() -> None:
    """What is refused, or spelled in letters beyond ASCII, takes up to a hundred times as long as what is plain."""
    items = [metering_pb2.UsageEvent(metadata={f"ä{n}": "x" * 300 for n in range(16)})] * 300
    turns_of_others = 0
    judging = asyncio.ensure_future(intake.judge(items, POLICY))
    while not judging.done():
        turns_of_others += 1
        await asyncio.sleep(0)
    assert len(judging.result().rejections) == len(items)
    assert turns_of_others >= 5


@given(events(odd_max=0))
def test_an_event_that_was_not_read_is_refused_with_the_reason(
    event: metering_pb2.UsageEvent,
) -> None:
    """Also one that is sound otherwise: what was left out of it nobody knows."""
    event.unreadable = "quantity: it is a list"
    (refused,) = judged(event).rejections
    assert (refused.reason, refused.request_id) == ("INVALID_FIELD", event.request_id)
    assert "quantity: it is a list" in refused.message
