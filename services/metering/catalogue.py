"""Which SKUs exist, as far as metering was told: a bounded memory of the catalogue's answers."""

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


class _Shelf:
    """What is remembered of one tenant."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.unknown_until: dict[str, float] = {}
        self.lookup_lock = asyncio.Lock()


class SkuMemory:
    """Remembers SKUs for good and their absence for a moment; asks once for what it does not know.

    Args:
        lookup: asks the catalogue.
        monotonic: seconds that only grow.
    """

    def __init__(self, lookup: Lookup, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._monotonic = monotonic
        self._shelves: OrderedDict[str, _Shelf] = OrderedDict()

    async def known(self, tenant_id: str, skus: Set[str]) -> Set[str]:
        """Return a set that has those of `skus` that exist; looks up at once what is not remembered.

        Raises:
            DependencyUnavailable: the catalogue is needed and cannot be reached.
        """
        shelf = self._shelf(tenant_id)
        if skus <= shelf.known:
            return shelf.known
        async with shelf.lookup_lock:
            strangers = self._strangers(shelf, skus)
            if strangers:
                found = set(await self._lookup(sorted(strangers)))
                self._remember(shelf, skus, found, strangers - found)
        return shelf.known

    def _shelf(self, tenant_id: str) -> _Shelf:
        shelf = self._shelves.setdefault(tenant_id, _Shelf())
        self._shelves.move_to_end(tenant_id)
        while len(self._shelves) > TENANTS_MAX:
            self._shelves.popitem(last=False)
        return shelf

    def _strangers(self, shelf: _Shelf, skus: Set[str]) -> set[str]:
        """Return what to ask for; names that break the grammar exist nowhere."""
        now = self._monotonic()
        return {
            sku
            for sku in skus - shelf.known
            if shelf.unknown_until.get(sku, now) <= now and _SKU(sku)
        }

    def _remember(self, shelf: _Shelf, asked: Set[str], found: set[str], missing: set[str]) -> None:
        if len(shelf.known) + len(found) > SKUS_MAX:
            # A new set, because batches that are being judged hold the old one.
            shelf.known = shelf.known & asked
        shelf.known |= found
        if len(shelf.unknown_until) + len(missing) > SKUS_MAX:
            shelf.unknown_until.clear()
        until = self._monotonic() + UNKNOWN_SECONDS
        shelf.unknown_until.update(dict.fromkeys(missing, until))
