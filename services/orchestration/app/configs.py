"""Use cases of merchant configurations."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

from services.orchestration.app.processors import MerchantProcessors, check_adapters
from services.orchestration.domain import config as config_rules
from services.orchestration.domain import routing
from services.orchestration.domain.config import MerchantConfig, StoredConfig
from services.orchestration.domain.record import Filter
from services.orchestration.domain.simulation import Simulation
from services.orchestration.ports import Adapters
from services.orchestration.store import configs as store
from services.orchestration.store import health, payments
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.turns import aside, in_slices

PAGE = 200
"""Payments that are read at once."""
SLICE = 20
PAYMENTS_DEFAULT = 1_000


class MerchantConfigs:
    """Keeps how merchants want to be paid."""

    def __init__(
        self, database: Database, adapters: Adapters, processors: MerchantProcessors
    ) -> None:
        self._database = database
        self._adapters = adapters
        self._processors = processors

    async def put(self, config: MerchantConfig, work: UnitOfWork) -> int:
        """Store a version, audited; returns the version that holds.

        Raises:
            UnknownProcessor, InvalidField, UnknownCurrency, CredentialUnusable: it could not be carried out.
        """
        await self._check(config)
        await store.lock_merchant(work, config.merchant_id)
        stored = await store.find_configs(work, config.merchant_id)
        before = stored[0].config if stored else None
        version = before.version if before else 0
        if before == replace(config, version=version):
            return version
        config = replace(config, version=version + 1)
        await store.insert_config(work, config, current().principal_id)
        work.audit(
            "merchant_config",
            config.merchant_id,
            asdict(before) if before else None,
            asdict(config),
        )
        return config.version

    async def _check(self, config: MerchantConfig) -> None:
        # Each rule is compared with those before it.
        parts = len(config.routing.rules) ** 2
        adapters = self._adapters
        await aside(parts, config_rules.check, config, adapters.built_in, adapters.names)
        check_adapters(config, self._adapters)

    async def simulate(self, config: MerchantConfig, payments_max: int) -> Simulation:
        """Plan a merchant's latest payments anew with a configuration, as if it were the next version.

        Raises:
            UnknownProcessor, InvalidField, UnknownCurrency, CredentialUnusable: it could not be carried out.
        """
        await self._check(config)
        async with self._database.read() as work:
            stored = await store.find_configs(work, config.merchant_id)
            config = replace(config, version=stored[0].config.version + 1 if stored else 1)
            known = routing.NOTHING_KNOWN
            if beside := config_rules.replaceable(config):
                owner_of = partial(self._processors.owner_of, config.merchant_id)
                known = await health.snapshot(work, owner_of, config_rules.watched(config), beside)
        offered = self._processors.named_by(config)
        holding = frozenset(name for name, each in offered.items() if each.capabilities.holds)
        found, before = Simulation(), ""
        while found.looked_at < payments_max:
            # Page by page: no snapshot is held open, and no more is in memory.
            limit = min(PAGE, payments_max - found.looked_at)
            async with self._database.read() as work:
                wanted = Filter(config.merchant_id)
                ids = await payments.list_ids(work, wanted, before=before, limit=limit)
                page = await payments.load(work, ids)
            async for payment in in_slices(page, SLICE):
                found.add(payment, config, holding, known)
            if len(ids) < limit:
                break
            before = ids[-1]
        return found

    async def get(self, merchant_id: str, version: int) -> StoredConfig:
        """Return a version, 0 for the current one. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.find_configs(work, merchant_id, version=version)
        if not found:
            name = f"{merchant_id} version {version}" if version else merchant_id
            raise NotFound("merchant_config", name)
        return found[0]

    async def versions(self, merchant_id: str, *, before: int, limit: int) -> list[StoredConfig]:
        """Return versions of a merchant, the newest first. Raises NotFound for one that has none."""
        async with self._database.read() as work:
            found = await store.find_configs(work, merchant_id, before=before, limit=limit)
        if not found and not before:
            raise NotFound("merchant_config", merchant_id)
        return found

    async def current(self, *, after: str, limit: int) -> list[StoredConfig]:
        """Return the current version of each merchant behind an id, by merchant_id."""
        async with self._database.read() as work:
            return await store.find_current(work, after=after, limit=limit)
