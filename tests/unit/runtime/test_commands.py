"""Which transactions are run again: those that Postgres rolled back as the victim of a conflict."""

from __future__ import annotations

import psycopg
import pytest

from services.runtime.commands import ATTEMPTS_MAX, _retried
from services.runtime.errors import DatabaseUnavailable

VICTIMS = [
    psycopg.errors.DeadlockDetected(),
    psycopg.errors.SerializationFailure(),
    psycopg.errors.DeadlockDetected(),
]


class Transaction:
    """Fails with a cause for the first tries, then succeeds."""

    def __init__(self, cause: BaseException, failures: int) -> None:
        self.cause = cause
        self.failures = failures
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            raise DatabaseUnavailable("gave up") from self.cause
        return "posted"


@pytest.mark.parametrize("cause", VICTIMS, ids=repr)
async def test_a_victim_is_run_again(cause: BaseException) -> None:
    transaction = Transaction(cause, failures=ATTEMPTS_MAX - 1)
    assert await _retried(transaction) == "posted"
    assert transaction.tries == ATTEMPTS_MAX


async def test_tries_are_bounded() -> None:
    transaction = Transaction(VICTIMS[0], failures=100)
    with pytest.raises(DatabaseUnavailable):
        await _retried(transaction)
    assert transaction.tries == ATTEMPTS_MAX


async def test_what_may_have_been_committed_is_the_callers_to_ask_again() -> None:
    transaction = Transaction(psycopg.OperationalError("connection lost"), failures=1)
    with pytest.raises(DatabaseUnavailable):
        await _retried(transaction)
    assert transaction.tries == 1
