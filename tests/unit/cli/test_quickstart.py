"""`tollmesh quickstart`: the files, their dates, and what happens where some are already."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import quickstart
from services.cli.errors import CliError
from services.runtime import moments

MOMENTS = st.datetimes(
    min_value=datetime(2024, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(MOMENTS)
def test_usage_lies_in_the_month_and_is_never_ahead(now: datetime) -> None:
    rows = list(csv.DictReader(io.StringIO(quickstart.usage(now))))
    start_at = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for row in rows:
        assert start_at <= moments.read(row["event_time"]) <= now
    calls = sum(int(row["quantity"]) for row in rows if row["sku"] == "api.calls")
    stored = sum(int(row["quantity"]) for row in rows if row["sku"] == "storage.gb_hours")
    assert (calls, stored) == (24_000, 330)


def test_no_two_events_share_an_id_a_minute_into_the_month() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=1)
    rows = list(csv.DictReader(io.StringIO(quickstart.usage(now))))
    assert len({row["request_id"] for row in rows}) == len(rows)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    now = datetime(2026, 11, 29, 17, tzinfo=UTC)
    assert sorted(file.name for file in quickstart.write(tmp_path / "q", now)) == [
        "catalog.yaml",
        "merchant.yaml",
        "usage.csv",
    ]
    (tmp_path / "q" / "catalog.yaml").unlink()
    (tmp_path / "q" / "usage.csv").write_text("mine")
    with pytest.raises(CliError, match=r"merchant\.yaml, .*usage\.csv would be overwritten"):
        quickstart.write(tmp_path / "q", now)
    assert (tmp_path / "q" / "usage.csv").read_text() == "mine"
    assert not (tmp_path / "q" / "catalog.yaml").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="Not a directory"):
        quickstart.write(tmp_path / "file" / "q", datetime(2026, 11, 29, tzinfo=UTC))
