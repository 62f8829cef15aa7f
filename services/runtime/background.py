"""All background work of a service, as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Task(Protocol):
    """Work that goes on until it is stopped."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End; it may not have begun."""


class Background:
    """Several tasks, started in order and stopped in the opposite one."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    async def start(self) -> None:
        """Begin all."""
        for task in self._tasks:
            await task.start()

    async def stop(self) -> None:
        """End all."""
        for task in reversed(self._tasks):
            await task.stop()
