"""What a process knows of its surroundings, and its background work goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Conditions:
    """Of one process; `readiness` and `storage` keep them up to date, everybody else reads.

    Attributes:
        database_gone: the database does not answer. What fails meanwhile was told of already.
        storage_low: little room is left where the database keeps its files. Nothing new is begun.
    """

    database_gone: bool = False
    storage_low: bool = False
