"""Room on the disk of the database: when writes are refused, and when they are taken again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.runtime.conditions import Conditions
from services.runtime.errors import Code, StorageLow
from services.runtime.storage import AGAIN_FACTOR, Room, Storage, room_in

MIB = 1024**2
TOTAL = 100 * 1024 * MIB


class Disk:
    """A disk whose room a test sets."""

    def __init__(self, free: int, total: int = TOTAL, files: int | None = None) -> None:
        self.free, self.total, self.files = free, total, files
        self.error: OSError | None = None

    def __call__(self) -> Room:
        if self.error is not None:
            raise self.error
        return Room(self.free, self.total, self.files)


def test_writes_are_refused_below_the_mark_and_taken_again_well_above_it() -> None:
    disk, conditions = Disk(512 * MIB), Conditions()
    storage = Storage(512 * MIB, conditions, disk)
    with capture_logs() as lines:
        for free, low in (
            (512 * MIB, False),
            (512 * MIB - 1, True),
            (512 * MIB, True),
            (640 * MIB - 1, True),
            (640 * MIB, False),
            (512 * MIB, False),
            (0, True),
            (TOTAL, False),
        ):
            disk.free = free
            for _ in range(3):
                storage.look()
            assert conditions.storage_low is low, free
    assert [line["log_level"] for line in lines] == ["error", "warning", "error", "warning"]


def test_the_refusal_is_typed_says_how_much_and_when_to_come_back() -> None:
    storage = Storage(512 * MIB, Conditions(), Disk(100 * MIB))
    storage.check()
    storage.look()
    with pytest.raises(StorageLow, match=r"only 100 MiB are free.*512 MiB") as refused:
        storage.check()
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert refused.value.transient, "so it is never stored as the answer"
    assert refused.value.retry_after_ms == 10_000
    assert refused.value.metadata == {
        "free_bytes": str(100 * MIB),
        "free_bytes_min": str(512 * MIB),
    }


@pytest.mark.parametrize(
    ("free", "total", "files", "mark", "low"),
    [
        (200 * MIB, 1024 * MIB, None, 512 * MIB, False),  # a tenth of a small disk is enough
        (100 * MIB, 1024 * MIB, None, 512 * MIB, True),
        # Less than a tenth of it may be too little for the next file of Postgres' log.
        (32 * MIB - 1, 130 * MIB, None, 512 * MIB, True),
        (32 * MIB, 130 * MIB, None, 512 * MIB, False),
        (9 * MIB, 130 * MIB, None, 8 * MIB, False),  # who asks for less gets it
        (0, TOTAL, None, 0, False),  # turned off
        (TOTAL, TOTAL, 999, 512 * MIB, True),  # no files are left, though bytes are
        (TOTAL, TOTAL, 1000, 512 * MIB, False),
        (1, 0, None, 512 * MIB, False),  # a file system that says nothing of its size
    ],
)
def test_small_disks_no_files_and_no_mark(
    free: int, total: int, files: int | None, mark: int, low: bool
) -> None:
    conditions = Conditions()
    Storage(mark, conditions, Disk(free, total, files)).look()
    assert conditions.storage_low is low


def test_what_cannot_be_measured_changes_nothing_and_is_told_once() -> None:
    disk, conditions = Disk(1), Conditions()
    storage = Storage(512 * MIB, conditions, disk)
    storage.look()
    disk.error = OSError(5, "Input/output error")
    with capture_logs() as lines:
        for _ in range(10):
            storage.look()
    assert conditions.storage_low
    assert len(lines) == 1


@given(st.lists(st.integers(0, 2048), min_size=1, max_size=50))
def test_it_is_low_below_the_mark_never_low_well_above_and_stays_as_it_is_between(
    free_mib: list[int],
) -> None:
    disk, conditions = Disk(0), Conditions()
    storage = Storage(512 * MIB, conditions, disk)
    for free in free_mib:
        disk.free, before = free * MIB, conditions.storage_low
        storage.look()
        if free < 512:
            assert conditions.storage_low
        elif free >= 512 * AGAIN_FACTOR:
            assert not conditions.storage_low
        else:
            assert conditions.storage_low is before


def test_a_folder_is_measured(tmp_path: Path) -> None:
    (tmp_path / "cluster/pg_wal").mkdir(parents=True)
    room = room_in(tmp_path)
    assert 0 < room.free_bytes <= room.total_bytes
    with pytest.raises(OSError):
        room_in(tmp_path / "missing")
