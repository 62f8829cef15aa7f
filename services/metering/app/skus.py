"""A bounded cache of which SKUs exist in the catalogue."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Set

Lookup = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Asks the catalogue, for the tenant of the running call, which of these SKUs it has."""

UNKNOWN_SECONDS = 0.2
"""How long a SKU stays unknown without being asked for again: five lookups a second at most, and a SKU
that was just added is accepted as soon as anybody would notice."""
TENANTS_MAX = 1_000
SKUS_MAX = 20_000
"""SKUs remembered of one tenant. Beyond it the memory starts anew; nothing is refused for that."""

_SKU = re.compile(r"[A-Za-z0-9._:-]{1,64}").fullmatch


class _Skus:
    """What is remembered of one tenant."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.unknown_until: dict[str, float] = {}
        self.lookup_lock = asyncio.Lock()


class SkuMemory:
    """Caches existing SKUs permanently and missing ones briefly; looks each unknown SKU up only once.

    Args:
        lookup: asks the catalogue.
        monotonic: seconds that only grow.
    """

    def __init__(self, lookup: Lookup, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._monotonic = monotonic
        self._tenants: OrderedDict[str, _Skus] = OrderedDict()

    async def known(self, tenant_id: str, skus: Set[str]) -> Set[str]:
        """Return a set that has those of `skus` that exist; looks up at once what is not remembered.

        Raises:
            DependencyUnavailable: the catalogue is needed and cannot be reached.
        """
        held = self._of(tenant_id)
        if skus <= held.known:
            return held.known
        async with held.lookup_lock:
            unremembered = self._unremembered(held, skus)
            if unremembered:
                found = set(await self._lookup(sorted(unremembered)))
                self._remember(held, skus, found, unremembered - found)
        return held.known

    def _of(self, tenant_id: str) -> _Skus:
        held = self._tenants.setdefault(tenant_id, _Skus())
        self._tenants.move_to_end(tenant_id)
        while len(self._tenants) > TENANTS_MAX:
            self._tenants.popitem(last=False)
        return held

    def _unremembered(self, held: _Skus, skus: Set[str]) -> set[str]:
        """Return what to ask for; names that break the grammar exist nowhere."""
        now = self._monotonic()
        return {
            sku
            for sku in skus - held.known
            if held.unknown_until.get(sku, now) <= now and _SKU(sku)
        }

    def _remember(self, held: _Skus, asked: Set[str], found: set[str], missing: set[str]) -> None:
        if len(held.known) + len(found) > SKUS_MAX:
            # A new set, because batches that are being judged hold the old one.
            held.known = held.known & asked
        held.known |= found
        if len(held.unknown_until) + len(missing) > SKUS_MAX:
            held.unknown_until.clear()
        until = self._monotonic() + UNKNOWN_SECONDS
        held.unknown_until.update(dict.fromkeys(missing, until))
