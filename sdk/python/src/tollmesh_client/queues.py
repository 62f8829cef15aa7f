"""The queue of an ingester that keeps events in memory only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tollmesh_client.errors import QueueFull
from tollmesh_client.spool import Place


class Queue(Protocol):
    """What an ingester keeps its events in: this one, or a Spool."""

    @property
    def records(self) -> int:
        """How many wait to be taken."""
        ...

    def put(self, records: Sequence[bytes]) -> None:
        """Append records, all or none. Raises QueueFull."""
        ...

    def take(self, records_max: int, bytes_max: int) -> tuple[list[bytes], Place]:
        """Return the next ones, at least one if there is one, and the place behind them."""
        ...

    def release(self, place: Place) -> None:
        """Forget all before a place."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class MemoryQueue:
    """Records in memory, bounded by number and bytes; those that were taken count until they are released."""

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self._records_max, self._bytes_max = records_max, bytes_max
        self._state = threading.Lock()
        self._waiting: deque[bytes] = deque()
        # Sizes of what was taken and not released: number and bytes, by the place behind them.
        self._taken: deque[tuple[Place, int, int]] = deque()
        self._count = self._bytes = 0
        self._place = Place(0, 0)

    @property
    def records(self) -> int:
        """How many wait to be taken."""
        return len(self._waiting)

    def put(self, records: Sequence[bytes]) -> None:
        """Append records, all or none. Raises QueueFull."""
        size = sum(map(len, records))
        with self._state:
            if (
                self._count + len(records) > self._records_max
                or self._bytes + size > self._bytes_max
            ):
                raise QueueFull(
                    f"{self._count:,} events ({self._bytes:,} bytes) wait for the mesh, and no more are kept: "
                    "add more slowly, or give the ingester a spool"
                )
            self._waiting.extend(records)
            self._count += len(records)
            self._bytes += size

    def take(self, records_max: int, bytes_max: int) -> tuple[list[bytes], Place]:
        """Return the next records, at least one if there is one, and the place behind them."""
        found: list[bytes] = []
        size = 0
        with self._state:
            while self._waiting and len(found) < records_max:
                if found and size + len(self._waiting[0]) > bytes_max:
                    break
                found.append(self._waiting.popleft())
                size += len(found[-1])
            if found:
                self._place = Place(0, self._place.offset + len(found))
                self._taken.append((self._place, len(found), size))
            return found, self._place

    def release(self, place: Place) -> None:
        """Forget all before a place."""
        with self._state:
            while self._taken and self._taken[0][0] <= place:
                _, count, size = self._taken.popleft()
                self._count -= count
                self._bytes -= size

    def close(self) -> None:
        """Do nothing: what is in memory goes with it."""
