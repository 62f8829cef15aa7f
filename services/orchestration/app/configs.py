"""Use cases of merchant configurations."""

from __future__ import annotations

from dataclasses import asdict, replace

from services.orchestration.app.processors import check_adapters
from services.orchestration.domain import config as config_rules
from services.orchestration.domain.config import MerchantConfig, StoredConfig
from services.orchestration.ports import Adapters
from services.orchestration.store import configs as store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound


class MerchantConfigs:
    """Keeps how merchants want to be paid."""

    def __init__(self, database: Database, adapters: Adapters) -> None:
        self._database = database
        self._adapters = adapters

    async def put(self, config: MerchantConfig, work: UnitOfWork) -> int:
        """Store a version, audited; returns the version that holds.

        Raises:
            UnknownProcessor, InvalidField, UnknownCurrency, CredentialUnusable: it could not be carried out.
        """
        config_rules.check(config, self._adapters.built_in, self._adapters.names)
        check_adapters(config, self._adapters)
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
