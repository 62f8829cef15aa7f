"""Keys while the database is away: those that were found good a while ago, and no others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from services.runtime.access import CACHE_SECONDS, KeyRing, KeyState, digest
from services.runtime.conditions import Conditions
from services.runtime.errors import DatabaseUnavailable, Unauthenticated

KEY = KeyState("acme", "key_1", frozenset({"metering:write"}), None, None)
HOUR = 3600.0


@dataclass
class _Database:
    conditions: Conditions


class Ring(KeyRing):
    """Looks keys up in a dictionary.

    Attributes:
        known: keys, by their secret.
        away: the database does not answer.
        looked: how often it was asked.
    """

    def __init__(self) -> None:
        self.conditions = Conditions()
        super().__init__(cast("Any", _Database(self.conditions)))
        self.known = {"secret": KEY}
        self.away = False
        self.looked = 0

    async def state(self, key_sha256: bytes) -> KeyState | None:
        self.looked += 1
        if self.away:
            raise DatabaseUnavailable("away")
        return {digest(secret): key for secret, key in self.known.items()}.get(key_sha256)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr("services.runtime.access.time.monotonic", lambda: seconds[0])
    return seconds


@pytest.mark.parametrize("gone", [False, True])
async def test_a_key_that_was_found_good_is_recalled_for_so_long(
    now: list[float], gone: bool
) -> None:
    ring = Ring()
    principal, confirmed = await ring.resolve_or_recall("secret", HOUR)
    assert (principal.tenant_id, principal.principal_id, confirmed) == ("acme", "key_1", True)
    ring.away = True
    ring.conditions.database_gone = gone
    # Within the time for which it is remembered anyway.
    assert await ring.resolve_or_recall("secret", HOUR) == (principal, True)
    now[0] += CACHE_SECONDS + 0.1
    looked = ring.looked
    assert await ring.resolve_or_recall("secret", HOUR) == (principal, False)
    # What is known to be away is not waited for.
    assert ring.looked == looked + (not gone)
    with pytest.raises(DatabaseUnavailable):
        await ring.resolve("secret")
    now[0] += HOUR
    with pytest.raises(DatabaseUnavailable) as refused:
        await ring.resolve_or_recall("secret", HOUR)
    assert refused.value.retry_after_ms == 1000
    with pytest.raises(DatabaseUnavailable):
        await ring.resolve_or_recall("another", HOUR)


async def test_no_recall_is_no_recall(now: list[float]) -> None:
    ring = Ring()
    await ring.resolve_or_recall("secret", 0)
    ring.away = True
    now[0] += CACHE_SECONDS + 0.1
    with pytest.raises(DatabaseUnavailable):
        await ring.resolve_or_recall("secret", 0)


async def test_a_key_that_was_found_bad_is_forgotten(now: list[float]) -> None:
    ring = Ring()
    await ring.resolve_or_recall("secret", HOUR)
    now[0] += CACHE_SECONDS + 0.1
    ring.known["secret"] = replace(KEY, revoked_at=datetime.now(UTC))
    with pytest.raises(Unauthenticated):
        await ring.resolve_or_recall("secret", HOUR)
    ring.away = True
    with pytest.raises(DatabaseUnavailable):
        await ring.resolve_or_recall("secret", HOUR)


async def test_a_key_that_has_ended_meanwhile_is_refused(now: list[float]) -> None:
    ring = Ring()
    ring.known["secret"] = replace(KEY, expires_at=datetime.now(UTC) + timedelta(milliseconds=1))
    with pytest.raises(Unauthenticated, match="expired"):
        # It ends between its look-up and its recall at the latest.
        for _ in range(10_000):
            ring.away = False
            await ring.resolve_or_recall("secret", HOUR)
            ring.away = True
            now[0] += CACHE_SECONDS
            await ring.resolve_or_recall("secret", HOUR)


END = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize("key", [replace(KEY, revoked_at=END), replace(KEY, expires_at=END)])
def test_a_key_worked_until_its_end(key: KeyState) -> None:
    assert KEY.worked_at(END)
    assert key.worked_at(END - timedelta(microseconds=1))
    assert not key.worked_at(END)
