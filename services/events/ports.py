"""What the use cases of events need of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.events.domain.outside import Incoming, Passed, Rule
from services.events.domain.types import EventType, Registration
from services.runtime.errors import DomainError


class Checks(Protocol):
    """Checks payloads against tenants' schemas without blocking other calls."""

    async def payloads(
        self, rules: Mapping[tuple[str, int], Rule], events: Sequence[Incoming]
    ) -> list[Passed | DomainError]:
        """Check events by their rules, by subject and version; those without one get a fingerprint only."""

    async def schemas(self, types: Sequence[EventType]) -> list[DomainError | None]:
        """Read the schemas that types declare; an error stands for a type that has one that cannot be."""

    async def registration(
        self, standing: EventType | None, declared: EventType, now: datetime
    ) -> Registration:
        """Judge a registration. Raises what `domain.types.register` does, and CheckTooCostly."""
