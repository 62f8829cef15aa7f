"""Times as messages hold them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.edge import values


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 4, 5, 6, 7, 80_001, tzinfo=timezone(timedelta(hours=-9.5))),
        datetime(2026, 3, 4, 5, 6, 7, 80_001),  # noqa: DTZ001 - without a zone on purpose
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
def test_a_moment_is_written_as_the_library_writes_it(moment: datetime) -> None:
    theirs = Timestamp()
    theirs.FromDatetime(moment)
    assert values.stamp(moment) == theirs
    whole = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert values.moment_of(values.stamp(moment)) == whole
