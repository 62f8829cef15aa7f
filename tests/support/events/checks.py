"""Checks of the event service without a process of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from services.events.adapters.checks import Checks
from services.runtime.errors import DomainError
from services.runtime.workers import Workers


class _Here(Workers):
    """Calls the functions in this process."""

    async def run(
        self,
        tenant_id: str,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        *,
        budgets: int = 1,
        until: float = math.inf,
    ) -> list[Any]:
        return [self._call(function, shared, item) for item in items]

    def _call(self, function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
        try:
            return function(shared, item)
        except DomainError as error:
            return error


HERE = Checks(_Here())
