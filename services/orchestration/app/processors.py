"""The processors of a merchant: those of every merchant, and those of its own configuration."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.health import Fared
from services.orchestration.domain.processors import Offered
from services.orchestration.ports import Adapters, Processor
from services.orchestration.store import configs as store
from services.orchestration.store import health
from services.runtime.context import current
from services.runtime.database import Database
from services.runtime.errors import InvalidField, NotFound

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

    def owner_of(self, merchant_id: str, processor_id: str) -> str:
        """Return the merchant whose own a processor is that it names; empty for one of every merchant."""
        return "" if processor_id in self._adapters.built_in else merchant_id


class ProcessorList:
    """What there is to know of processors beforehand: what they can do, and how they have fared."""

    def __init__(self, database: Database, adapters: Adapters) -> None:
        self._database = database
        self._adapters = adapters

    async def offered(self, merchant_id: str, *, after: str, limit: int) -> list[Offered]:
        """Return processors that a merchant's current configuration may name, by id.

        Args:
            merchant_id: whose; empty for those of every merchant alone.
            after: only those whose id comes behind it.
            limit: most of them.

        Raises:
            NotFound: the merchant has no configuration.
        """
        built_in = self._adapters.built_in
        found = [Offered(each, "sandbox", False, built_in[each].capabilities) for each in built_in]
        if merchant_id:
            async with self._database.read() as work:
                stored = await store.find_configs(work, merchant_id)
            if not stored:
                raise NotFound("merchant_config", merchant_id)
            found += [
                Offered(
                    each.processor_id, each.adapter, True, self._adapters.build(each).capabilities
                )
                for each in stored[0].config.processors
            ]
        behind = (each for each in found if each.processor_id > after)
        return heapq.nsmallest(limit, behind, key=lambda each: each.processor_id)

    async def fared(self, merchant_id: str, processor_id: str, window: timedelta) -> Fared:
        """Return how a processor has fared.

        Args:
            merchant_id: whose own it is; one of every merchant is told the same with any.

        Raises:
            NotFound: it is no processor of every merchant, and the merchant neither brings it nor has tried it.
        """
        everybodys = processor_id in self._adapters.built_in
        owner = "" if everybodys else merchant_id
        async with self._database.read() as work:
            found = await health.fared(work, owner, processor_id, window)
            is_known = everybodys or found.attempts > 0
            if not is_known and not await health.is_known(work, owner, processor_id):
                whose = f" of merchant {owner}" if owner else ""
                raise NotFound("processor", f"{processor_id}{whose}")
        return found


def check_adapters(config: MerchantConfig, adapters: Adapters) -> None:
    """Refuse processors that their adapters cannot use. Raises InvalidField, CredentialUnusable."""
    faults = [
        replace(fault, field=f"config.processors[{index}].{fault.field}")
        for index, each in enumerate(config.processors)
        for fault in adapters.check(each)
    ]
    if faults:
        raise InvalidField.of(faults)
