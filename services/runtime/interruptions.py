"""What background work says when it fails: one line when it begins to, one when it works again, and counts between.

A database that is away stops every loop of a process at once. It is told once, by `readiness`; the loops keep quiet
about it and only speak of what fails while the database answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psycopg
import structlog

from services.runtime.conditions import Conditions
from services.runtime.errors import DatabaseUnavailable

# A lost session is opened again within milliseconds; the probe of the database needs a moment to see one that is gone.
QUIET_SECONDS = 3.0
# Who works and fails by turns is told of once: it has to work so long to count as mended.
SETTLED_SECONDS = 5.0
# Different failures told of in one interruption.
KINDS_MAX = 8
_CHARS_MAX = 500

_log = structlog.get_logger(__name__)


class Interruptions:
    """Counts the failures of one kind of background work, and logs their beginning and their end.

    Args:
        what: the work, as the log names it, e.g. `sequencer`.
        conditions: of the process, for work that needs its database.
        clock: monotonic seconds.
        fields: what its lines say besides.

    Attributes:
        count: failures since it last worked; 0 while it works.
        last_error: what the last of them said; empty while it works.
    """

    def __init__(
        self,
        what: str,
        conditions: Conditions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self._what = what
        self._conditions = conditions
        self._clock = clock
        self._fields = dict(fields or {})
        self._since = self._quiet_since = self._failed_at = 0.0
        self._told: set[str] = set()
        self.count = 0
        self.last_error = ""

    @property
    def failing_seconds(self) -> float:
        """How long it has failed without a success between; 0 while it works."""
        return self._clock() - self._since if self.last_error else 0.0

    def failed(self, error: BaseException, **details: object) -> None:
        """Take note of a failure; logs it when nothing like it was told since the work last ran well."""
        now = self._clock()
        if not self.last_error:
            self._since = self._quiet_since = now
        if self._conditions is not None and self._conditions.database_gone:
            # What was begun meanwhile may fail for a moment after it is back.
            self._quiet_since = now
        self._failed_at = now
        self.count += 1
        self.last_error = error_summary(error)
        kind = _kind(error)
        if kind in self._told or len(self._told) >= KINDS_MAX:
            return
        if is_database_away(error) and self._is_quiet(now):
            return
        self._told.add(kind)
        _log.warning(
            f"{self._what} interrupted",
            error=self.last_error,
            failures=self.count,
            **self._fields,
            **details,
        )

    def works(self) -> None:
        """Take note that it ran well; logs the end of an interruption that was told of."""
        if not self.count:
            return
        self.last_error = ""
        now = self._clock()
        if now - self._failed_at < SETTLED_SECONDS and self._told:
            return
        if self._told:
            _log.warning(f"{self._what} works again", failures=self.count, **self._fields)
        self._told.clear()
        self.count = 0

    def _is_quiet(self, now: float) -> bool:
        if self._conditions is None:
            return False
        return self._conditions.database_gone or now - self._quiet_since < QUIET_SECONDS


def error_summary(error: BaseException) -> str:
    """Return what an error says, for a log; of a group, what its first says."""
    first = _first(error)
    return f"{type(first).__name__}: {first}"[:_CHARS_MAX]


def is_database_away(error: BaseException) -> bool:
    """True for what drivers and pools say when the database is gone, hangs, or broke the connection off."""
    cause = _first(error)
    if str(getattr(cause, "sqlstate", None) or "").startswith("53"):
        return False  # it is there, and short of something
    return isinstance(
        cause,
        psycopg.OperationalError
        | psycopg.InterfaceError
        | DatabaseUnavailable
        | ConnectionError
        | TimeoutError,
    )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _kind(error: BaseException) -> str:
    cause = _first(error)
    mark = getattr(cause, "sqlstate", None) or getattr(cause, "reason", None) or ""
    return f"{type(cause).__name__}:{mark}"
