"""When a call that failed is made again, and after how long."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tollmesh_client.errors import CallError, ConfigurationError

_AGAIN = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclass(frozen=True)
class Retries:
    """How often and how fast a call is made again.

    Only calls that may be repeated are: those that read, and those whose request_id, or ids of items, make the mesh do
    them once. They are, when the mesh cannot be reached, when an attempt took too long, and when the mesh says after
    what time it may help (RetryInfo); never after any other answer.

    Attributes:
        attempts_max: tries in all; 1 for none again.
        wait_first, wait_max: seconds before the second try, and at most; doubled from one to the next.
        jitter: share of a wait that is left to chance, from 0 to 1, so that callers do not come back all at once.
        retry_after_max: a longer wait than that, in seconds, is left to the caller.
    """

    attempts_max: int = 5
    wait_first: float = 0.1
    wait_max: float = 5.0
    jitter: float = 0.5
    retry_after_max: float = 30.0

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a value is out of range."""
        if not (1 <= self.attempts_max <= 100):
            raise ConfigurationError("Retries.attempts_max must be from 1 to 100")
        if not (0 < self.wait_first <= self.wait_max <= 3600 and 0 <= self.jitter <= 1):
            raise ConfigurationError(
                "Retries: 0 < wait_first <= wait_max <= 3600 and 0 <= jitter <= 1 are needed"
            )

    def backoff(self, attempt: int) -> float:
        """Return the seconds to wait after an attempt, counted from 1."""
        whole = min(self.wait_first * 2.0 ** min(attempt - 1, 30), self.wait_max)
        return whole * (1 - self.jitter * random.random())  # noqa: S311 - not a secret


NO_RETRIES = Retries(attempts_max=1)


class Attempts:
    """The tries of one call.

    Args:
        retries: the policy.
        repeatable: whether the call may be made more than once.
        timeout: seconds for all tries together; None without end.
    """

    def __init__(self, retries: Retries, *, repeatable: bool, timeout: float | None) -> None:
        self._retries = retries
        self._repeatable = repeatable
        self._ends_at = None if timeout is None else time.monotonic() + timeout
        self.count = 1

    def remaining(self) -> float | None:
        """Return the seconds left for the next try, none of them negative; None without end."""
        return None if self._ends_at is None else max(self._ends_at - time.monotonic(), 0.0)

    def wait_after(self, error: CallError) -> float | None:
        """Return the seconds to wait before the next try; None when the error is final."""
        error.attempts = self.count
        asked = error.retry_after
        may_help = error.code in _AGAIN or asked is not None
        if not (self._repeatable and may_help) or self.count >= self._retries.attempts_max:
            return None
        if asked is not None and asked > self._retries.retry_after_max:
            return None
        wait = max(self._retries.backoff(self.count), asked or 0.0)
        remaining = self.remaining()
        if remaining is not None and wait >= remaining:
            return None
        self.count += 1
        return wait
