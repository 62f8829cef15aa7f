"""Room on the disk of the database: below a mark writes are refused, so that Postgres never finds it full.

Reading goes on, and so does what was accepted before. A Postgres elsewhere cannot be watched from here; that its disk
is full is known by its own error then (SQLSTATE 53100), which is refused in the same words.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.runtime.conditions import Conditions
from services.runtime.database import STORAGE_RETRY_MS
from services.runtime.errors import StorageLow
from services.runtime.loops import Loop

LOOK_SECONDS = 1.0
# A small file system is no reason to refuse everything.
SHARE_MAX = 10
# But for less than this Postgres itself may find no place for the next 16 MiB of its log, and panics.
FLOOR_BYTES = 2 * 16 * 1024**2
# Writes are taken again once there is so much more room than the mark: what is freed a little is full soon.
AGAIN_FACTOR = 1.25
# Files are as finite as bytes.
FILES_FREE_MIN = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has.

    Attributes:
        free_bytes: what Postgres may still write.
        total_bytes: its size.
        free_files: files that can still be made; None where that is not counted.
    """

    free_bytes: int
    total_bytes: int
    free_files: int | None = None


def room_in(folder: Path) -> Room:
    """Measure where a folder lies, and where its `cluster/pg_wal` does; returns the smaller.

    Raises:
        OSError: it cannot be measured.
    """
    places = [folder, *(place for place in (folder / "cluster/pg_wal",) if _is_there(place))]
    return min(map(_room, places), key=lambda room: room.free_bytes)


class Storage:
    """Watches the room in a folder, and says whether writes are taken.

    Args:
        free_bytes_min: the mark; 0 for none.
        conditions: told of it.
        measure: says what room there is; None where the database's files lie elsewhere.
    """

    def __init__(
        self, free_bytes_min: int, conditions: Conditions, measure: Callable[[], Room] | None
    ) -> None:
        self._free_bytes_min = free_bytes_min
        self._conditions = conditions
        self._measure = measure
        self._loop = Loop(
            "storage",
            self._look,
            conditions=conditions,
            rest_seconds=LOOK_SECONDS,
            first_seconds=LOOK_SECONDS,
        )
        self._blind = False
        self.room: Room | None = None

    def check(self) -> None:
        """Refuse a write while there is little room.

        Raises:
            StorageLow: says how much there is, and how much there has to be.
        """
        if not self._conditions.storage_low or self.room is None:
            return
        raise StorageLow(
            f"only {_mib(self.room.free_bytes)} MiB are free on the database's disk, and writes need "
            f"{_mib(self._mark(self.room))} MiB: nothing was changed; repeat the same request once there is space",
            retry_after_ms=STORAGE_RETRY_MS,
            free_bytes=self.room.free_bytes,
            free_bytes_min=self._mark(self.room),
        )

    def look(self) -> None:
        """Measure once."""
        if self._measure is None or not self._free_bytes_min:
            return
        try:
            room = self._measure()
        except OSError as error:
            if not self._blind:
                _log.warning("free room of the database cannot be measured", error=str(error))
            self._blind = True
            return
        self._blind = False
        self.room = room
        mark, low = self._mark(room), self._conditions.storage_low
        need = mark * AGAIN_FACTOR if low else mark
        short_of_files = room.free_files is not None and room.free_files < FILES_FREE_MIN
        self._conditions.storage_low = room.free_bytes < need or short_of_files
        if self._conditions.storage_low == low:
            return
        details = {
            "free_bytes": room.free_bytes,
            "free_bytes_min": mark,
            "free_files": room.free_files,
        }
        if low:
            _log.warning("storage has room again: writes are taken", **details)
        else:
            _log.error("storage is low: writes are refused until there is room", **details)

    async def start(self) -> None:
        """Look now, and every second from now on; in a thread, for a disk that hangs must hang nothing else."""
        if self._measure is None or not self._free_bytes_min:
            return
        await asyncio.to_thread(self.look)
        self._loop.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._loop.stop()

    async def _look(self) -> None:
        await asyncio.to_thread(self.look)

    def _mark(self, room: Room) -> int:
        if not room.total_bytes:
            return 0
        return min(self._free_bytes_min, max(room.total_bytes // SHARE_MAX, FLOOR_BYTES))


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return False  # below the folder of another user


def _room(place: Path) -> Room:
    found = os.statvfs(place)
    # Some file systems make files as they need them and count none.
    files = found.f_favail if found.f_files else None
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, files)


def _mib(number: int) -> int:
    return number // 1024**2
