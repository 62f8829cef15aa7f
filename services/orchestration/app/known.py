"""The configurations that this process has read, so that planning asks only whether they still hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from services.orchestration.domain import config as config_rules
from services.orchestration.domain.config import MerchantConfig, StoredConfig
from services.orchestration.domain.routing import NOTHING_KNOWN, Snapshot
from services.orchestration.ports import Processors
from services.orchestration.store import configs as store
from services.orchestration.store import health
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres.session import Rows

# Merchants whose configuration is kept at hand.
MERCHANTS_KEPT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Planning:
    """What a merchant's payments are planned with.

    Attributes:
        config: the version that holds; None: the merchant has none.
        holding: processors that can authorise without charging.
        health: what is known of the processors.
    """

    config: MerchantConfig | None
    holding: Set[str]
    health: Snapshot


@dataclass(frozen=True, slots=True)
class _Kept:
    """A version, with what follows from it; the last three are what `health.look` takes."""

    stored: StoredConfig
    holding: frozenset[str]
    owner_of: Callable[[str], str]
    watched: Mapping[int, Set[str]]
    breakers: Set[str]

    def look(self, tenant_id: str, now: datetime) -> health.Look:
        # Where no processor could stand in for another, their order does not matter.
        watched = self.watched if self.breakers else {}
        return health.look(tenant_id, now, self.owner_of, watched, self.breakers)

    def is_in_force(self, answer: Rows) -> bool:
        row = answer.first()
        here = (self.stored.config.version, self.stored.created_at)
        return row is not None and (row.version, row.created_at) == here


class Known:
    """Keeps configurations by merchant. A version never changes, so one that is still in force is as it was read."""

    def __init__(self, database: Database, processors: Processors) -> None:
        self._database = database
        self._processors = processors
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def at_once(self, merchant_id: str) -> Planning | None:
        """Return what planning needs, read all in one go; None where it takes a transaction.

        That is where another version is in force than this process knows, and where limits are to be counted.
        """
        tenant_id = current().tenant_id
        kept = self._kept.get((tenant_id, merchant_id))
        if kept is None or kept.stored.config.limits:
            return None
        look = kept.look(tenant_id, self._database.now())
        queries = (store.which(tenant_id, merchant_id), *look.queries)
        answer, *answers = await self._database.ask_all(*queries)
        if not kept.is_in_force(answer):
            return None
        return Planning(kept.stored.config, kept.holding, look.seen(answers))

    async def look(self, work: UnitOfWork, merchant_id: str) -> Planning:
        """Return what planning needs, as a transaction sees it."""
        if not merchant_id:
            return Planning(None, frozenset(), NOTHING_KNOWN)
        kept = self._kept.get((work.tenant_id, merchant_id))
        if kept is not None:
            look = kept.look(work.tenant_id, work.now)
            queries = (store.which(work.tenant_id, merchant_id), *look.queries)
            answer, *answers = await work.execute_all(*queries)
            if kept.is_in_force(answer):
                return Planning(kept.stored.config, kept.holding, look.seen(answers))
        found = await store.find_configs(work, merchant_id)
        if not found:
            self._kept.pop((work.tenant_id, merchant_id), None)
            return Planning(None, frozenset(), NOTHING_KNOWN)
        kept = self._keep(work.tenant_id, found[0])
        look = kept.look(work.tenant_id, work.now)
        answers = await work.execute_all(*look.queries) if look.queries else []
        return Planning(kept.stored.config, kept.holding, look.seen(answers))

    def _keep(self, tenant_id: str, stored: StoredConfig) -> _Kept:
        config = stored.config
        offered = self._processors.named_by(config)
        holding = frozenset(name for name, each in offered.items() if each.capabilities.holds)
        kept = _Kept(
            stored,
            holding,
            partial(self._processors.owner_of, config.merchant_id),
            config_rules.watched(config),
            config_rules.replaceable(config),
        )
        key = (tenant_id, config.merchant_id)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > MERCHANTS_KEPT_MAX:
            self._kept.popitem(last=False)
        return kept
