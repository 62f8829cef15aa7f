"""What a process knows of its surroundings, and its background work goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Health(Protocol):
    """How a loop of the process fares.

    Attributes:
        name: the loop's work.
        fields: what tells it from others of its kind.
    """

    name: str
    fields: Mapping[str, str]

    @property
    def stalled_seconds(self) -> float:
        """How long it has neither worked nor rested after work."""

    @property
    def failing_seconds(self) -> float:
        """How long every try has failed; 0 while none does."""


@dataclass(slots=True)
class Conditions:
    """Of one process; `readiness` and `storage` keep them up to date, everybody else reads.

    Attributes:
        database_gone: the database does not answer. What fails meanwhile was told of already.
        storage_low: little room is left where the database keeps its files. Nothing new is begun.
        loops: its background work.
    """

    database_gone: bool = False
    storage_low: bool = False
    loops: set[Health] = field(default_factory=set)
