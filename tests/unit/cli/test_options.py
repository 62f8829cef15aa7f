"""Spans of time and pairs of the command line, and differences by the paths of values."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from services.cli import durations
from services.cli.changes import field_changes
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.pairs import metadata_of


@pytest.mark.parametrize(
    ("written", "shown"),
    [("35d", "35d"), ("48h", "2d"), ("90m", "90m"), ("90s", "90s"), ("60", "1m"), ("0", "0s")],
)
def test_spans_are_read_and_written(written: str, shown: str) -> None:
    duration = Duration()
    duration.FromTimedelta(durations.parse(written))
    assert durations.describe(duration) == shown
    assert durations.parse(shown) == durations.parse(written)


def test_a_part_of_a_second_is_not_lost() -> None:
    assert durations.describe(Duration(seconds=60, nanos=500_000_000)) == "60.500s"


@pytest.mark.parametrize("text", ["", "1w", "-1d", "1.5h", "d", "1000000", "1 d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="is not a duration") as refused:
        durations.parse(text)
    assert refused.value.exit_code == EXIT_USAGE


def test_metadata_is_read_pair_by_pair() -> None:
    assert metadata_of(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    for wrong in (["a"], ["=b"], ["a=b", "a=b"]):
        with pytest.raises(CliError) as refused:
            metadata_of(wrong)
        assert refused.value.exit_code == EXIT_USAGE


def test_what_has_no_sku_goes_by_its_place() -> None:
    """The order of a merchant's methods is their priority: another order is a difference."""
    card, wallet = {"method": "card"}, {"method": "wallet"}
    assert field_changes({"methods": [card, wallet]}, {"methods": [wallet, card]}) == [
        "methods[0].method: card -> wallet",
        "methods[1].method: wallet -> card",
    ]
    assert field_changes({"a": True, "b": 1}, {"a": True}) == ["b: 1 -> -"]
    assert field_changes({"a": "1"}, {"a": "1"}) == []
