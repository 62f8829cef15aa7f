"""The processors of a merchant: those of every merchant, and those of its own configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from services.orchestration.domain.config import MerchantConfig
from services.orchestration.ports import Adapters, Processor
from services.orchestration.store import configs as store
from services.runtime.context import current
from services.runtime.database import Database
from services.runtime.errors import InvalidField

# Versions of configurations whose processors a process keeps at hand.
VERSIONS_KEPT_MAX = 1_000


class MerchantProcessors:
    """Finds the processors of a payment by the version of the configuration that it was planned with.

    A later version changes nothing about a payment, so that what became of an attempt is always asked where it was
    sent.
    """

    def __init__(self, database: Database, adapters: Adapters) -> None:
        self._database = database
        self._adapters = adapters
        # Versions never change; only those with processors of their own are worth a place.
        self._kept: OrderedDict[tuple[str, str, int], Mapping[str, Processor]] = OrderedDict()

    async def of(self, merchant_id: str, config_version: int) -> Mapping[str, Processor]:
        """Return those that a version of a configuration may name. Raises DomainError when it cannot be read."""
        key = (current().tenant_id, merchant_id, config_version)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        async with self._database.read() as work:
            found = await store.find_configs(work, merchant_id, version=config_version)
        self._kept[key] = self.named_by(found[0].config if found else None)
        if len(self._kept) > VERSIONS_KEPT_MAX:
            self._kept.popitem(last=False)
        return self._kept[key]

    def named_by(self, config: MerchantConfig | None) -> Mapping[str, Processor]:
        """Return those that a configuration may name."""
        if config is None or not config.processors:
            return self._adapters.built_in
        own = {each.processor_id: self._adapters.build(each) for each in config.processors}
        return {**self._adapters.built_in, **own}


def check_adapters(config: MerchantConfig, adapters: Adapters) -> None:
    """Refuse processors that their adapters cannot use. Raises InvalidField, CredentialUnusable."""
    faults = [
        replace(fault, field=f"config.processors[{index}].{fault.field}")
        for index, each in enumerate(config.processors)
        for fault in adapters.check(each)
    ]
    if faults:
        raise InvalidField.of(faults)
