"""Subjects, patterns and lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.events.lanes import LANES, lane_of
from services.runtime.outbox.subjects import Pattern, is_subject, split_version, with_version

_segment = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=12)
_subjects = st.lists(_segment, min_size=2, max_size=4).map(".".join)


@pytest.mark.parametrize(
    "text",
    [
        "usage.reported",
        "subscription.price.updated",
        "geography.service-area.upserted",
        "lead.handoff.context.recorded",
    ],
)
def test_subjects_of_the_seeds_fit_the_grammar(text: str) -> None:
    assert is_subject(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usage",
        "usage.",
        ".reported",
        "Usage.reported",
        "a.b.c.d.e",
        "a b.c",
        "a..b",
        "a.b\n",
        "é.b",
    ],
)
def test_what_is_no_subject(text: str) -> None:
    assert not is_subject(text)


@pytest.mark.parametrize(
    "text", ["usage", "*.reported", "usage.*.v2", "usage*", "a.b.c.d.e.*", "", "%.*"]
)
def test_a_bad_pattern_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ValueError, match="2 to 4 segments"):
        Pattern.parse(text)


@given(subject=_subjects)
def test_a_subject_matches_itself_its_prefix_and_everything(subject: str) -> None:
    assert Pattern.parse(subject).matches(subject)
    assert Pattern.parse(subject.rpartition(".")[0] + ".*").matches(subject)
    assert Pattern.parse("*").matches(subject)


@given(subject=_subjects.filter(is_subject), version=st.integers(2, 9999))
def test_a_version_matches_itself_and_every_start_of_it(subject: str, version: int) -> None:
    name = with_version(subject, version)
    assert Pattern.parse(name).matches(name)
    parts = subject.split(".")
    for count in range(1, len(parts) + 1):
        assert Pattern.parse(".".join([*parts[:count], "*"])).matches(name)


@given(subject=_subjects, other=_subjects)
def test_a_prefix_matches_exactly_what_lies_in_its_bounds(subject: str, other: str) -> None:
    pattern = Pattern.parse(other.partition(".")[0] + ".*")
    first, end = pattern.bounds()
    assert pattern.matches(subject) == (first <= subject < end)


def test_a_prefix_ends_at_a_segment() -> None:
    assert not Pattern.parse("usage.*").matches("usages.reported")
    assert not Pattern.parse("usage.reported").matches("usage.reported.v2")


def test_lanes_never_change() -> None:
    # A key that moved to another lane would overtake its own events.
    assert [lane_of("demo", key) for key in ("", "a", "pay_1", "ключ")] == [152, 234, 37, 120]


@given(tenant=st.text(max_size=20), key=st.text(max_size=20))
def test_every_key_has_one_lane(tenant: str, key: str) -> None:
    assert 0 <= lane_of(tenant, key) < LANES
    assert lane_of(tenant, key) == lane_of(tenant, key)


def test_lanes_are_used_evenly() -> None:
    counts = [0] * LANES
    for number in range(LANES * 100):
        counts[lane_of("demo", f"pay_{number}")] += 1
    assert min(counts) > 50
    assert max(counts) < 170


# ---- versions


@pytest.mark.parametrize(
    ("text", "subject", "version"),
    [
        ("usage.reported", "usage.reported", 1),
        ("usage.reported.v2", "usage.reported", 2),
        ("usage.reported.v1", "usage.reported", 1),
        ("lead.handoff.context.recorded.v12", "lead.handoff.context.recorded", 12),
        ("usage.reported.v2x", "usage.reported.v2x", 1),
        ("usage.reported.v0", "usage.reported.v0", 1),
    ],
)
def test_the_first_version_is_implied(text: str, subject: str, version: int) -> None:
    assert split_version(text) == (subject, version)
    assert Pattern.parse(text).matches(with_version(subject, version))
    assert split_version(with_version(subject, version)) == (subject, version)


@pytest.mark.parametrize(
    "text", ["usage.v2", "v2", "a.b.c.d.e", "a.b.c.d.e.v2", "A.b.v2", "a.b.v2.v3", ""]
)
def test_a_version_makes_no_subject_of_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid subject"):
        split_version(text)
    assert not is_subject(text)


def test_a_type_is_named_without_its_version() -> None:
    assert not is_subject("usage.reported.v2")


def test_a_prefix_takes_every_version() -> None:
    assert Pattern.parse("order.created.*").matches("order.created.v2")
    assert Pattern.parse("lead.handoff.context.*").matches("lead.handoff.context.recorded.v2")
    assert Pattern.parse("lead.handoff.context.recorded.*").matches(
        "lead.handoff.context.recorded.v2"
    )
    assert not Pattern.parse("order.created").matches("order.created.v2")
