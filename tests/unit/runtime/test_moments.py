"""Moments as text: RFC 3339 and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime import moments


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20t10:00:00z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00:00.1+05:30", datetime(2026, 11, 20, 4, 30, 0, 100_000, UTC)),
        ("2026-11-20T10:00:00-00:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00:00.123456999Z", datetime(2026, 11, 20, 10, 0, 0, 123_456, UTC)),
        ("2026-11-20T23:59:59.9999999Z", datetime(2026, 11, 20, 23, 59, 59, 999_999, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
        ("2024-02-29T00:00:00+23:59", datetime(2024, 2, 28, 0, 1, tzinfo=UTC)),
    ],
)
def test_what_rfc_3339_writes_is_read(text: str, moment: datetime) -> None:
    assert moments.read(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-1-1T0:0:0Z",
        "2026-11-20T10:00:00+99:99",
        "2026-11-20T10:00:00+24:00",
        "2026-11-20T10:00:00+05:60",
        "2026-11-20T10:00:00+0530",
        "2026-11-20T10:00:00+05",
        "2026-11-20T10:00:00+05:30:00",
        "2026-11-20T10:00:00",
        "2026-11-20T10:00Z",
        "2026-11-20 10:00:00Z",
        "2026-11-20T10:00:00,5Z",
        "2026-11-20T10:00:00.Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T10:60:00Z",
        "2016-12-31T23:59:60Z",
        "2026-02-29T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "+2026-11-20T10:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "20261120T100000Z",
        "2026-W47-5T10:00:00Z",
        "2026-11-20T10:00:00Z ",
        " 2026-11-20T10:00:00Z",
        "2026-11-20T10:00:00Z\n",
        "٢٠٢٦-11-20T10:00:00Z",
        "2026-11-20T10:00:00\u221205:00",
        "1764363194",
        "2026-11-20T10:00:00." + "1" * 5000 + "Z",
    ],
)
def test_all_else_is_refused_and_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=moments.EXAMPLE):
        moments.read(text)


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - gets its zone below
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
@settings(deadline=None)
def test_every_moment_in_every_zone_reads_back(local: datetime, minutes: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert moments.read(moment.isoformat()) == moment
    assert moments.read(moments.written(moment)) == moment
    # protobuf's reader takes what we write.
    stamp = Timestamp()
    stamp.FromJsonString(moments.written(moment))
    assert stamp.ToDatetime(UTC) == moment
