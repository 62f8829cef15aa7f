"""Moving organisations from one plan, or one version of it, to another from an instant on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.pricing.domain.catalog import Entitlement
from services.pricing.domain.changes import Change

# Entitlements, prices and tiers of one batch: its answer has them before and after, and has to fit into a message.
WEIGHT_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Migration:
    """What MigratePlan was asked for.

    Attributes:
        version: version that is left; 0: any.
        to_version: version that organisations are held to; 0: none.
        drop_overrides: prices of their own end with the old plan.
        limit: organisations to move at most.
    """

    plan_id: str
    version: int
    to_plan_id: str
    to_version: int
    effective_at: datetime
    drop_overrides: bool
    limit: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """Which entitlements a migration takes away from a plan.

    Attributes:
        unpinned: those that are held to no version are on the version that is left.
    """

    migration: Migration
    unpinned: bool

    @property
    def any_version(self) -> bool:
        """True when every version is left."""
        return self.migration.version == 0

    def holds(self, held: Entitlement) -> bool:
        """True for an entitlement that is to name the other plan."""
        wanted = self.migration
        if held.plan_id != wanted.plan_id:
            return False
        if (held.plan_id, held.plan_version) == (wanted.to_plan_id, wanted.to_version):
            return False
        version = held.plan_version
        return self.any_version or version == wanted.version or (self.unpinned and version == 0)


@dataclass(frozen=True, slots=True)
class Move:
    """What became of one organisation: the entitlement before and from the instant on, and all that changed."""

    org_id: str
    before: Entitlement | None
    after: Entitlement | None
    changes: tuple[Change, ...]

    @property
    def later_count(self) -> int:
        """How many entitlements that begin later name the other plan now."""
        return len(self.changes) - (1 if self.after else 0)


@dataclass(frozen=True, slots=True)
class Moves:
    """Who was moved, and how many are left."""

    moves: tuple[Move, ...]
    remaining: int


def batch(
    leaving: Leaving, found: Iterable[tuple[str, Sequence[Entitlement], bool]]
) -> tuple[Move, ...]:
    """Move organisations, one at least, until their own prices weigh as much as a batch may."""
    moves: list[Move] = []
    weight = 0
    for org_id, entitlements, by_model in found:
        weight += sum(_weight(item) for item in entitlements)
        if moves and weight > WEIGHT_MAX:
            break
        moves.append(move(leaving, org_id, entitlements, by_model=by_model))
    return tuple(moves)


def _weight(item: Entitlement) -> int:
    return 1 + sum(1 + own.price.tier_count for own in item.overrides)


def move(
    leaving: Leaving, org_id: str, entitlements: Sequence[Entitlement], *, by_model: bool
) -> Move:
    """Move one organisation.

    Args:
        leaving: what is left for what.
        org_id: the organisation.
        entitlements: all of its own, oldest first.
        by_model: at the instant it has none, and its business model puts it on the plan.
    """
    wanted = leaving.migration
    held = None
    later = []
    for item in entitlements:
        if item.effective_at <= wanted.effective_at:
            held = item
        elif leaving.holds(item):
            later.append(Change(item, _moved(wanted, item, item.effective_at)))
    after = None
    changes = []
    if by_model or (held and leaving.holds(held)):
        after = _moved(wanted, held or Entitlement(org_id, ""), wanted.effective_at)
        same_time = held if held and held.effective_at == wanted.effective_at else None
        changes.append(Change(same_time, after))
    return Move(org_id, held, after, (*changes, *later))


def _moved(wanted: Migration, item: Entitlement, effective_at: datetime) -> Entitlement:
    return replace(
        item,
        plan_id=wanted.to_plan_id,
        plan_version=wanted.to_version,
        effective_at=effective_at,
        overrides=() if wanted.drop_overrides else item.overrides,
    )
