"""What metering does on others' events: it learns which periods charges closed, and tells what they did not see."""

from __future__ import annotations

from payments.events.v1.billing_events_pb2 import (
    ChargeReversed,
    RatingCompleted,
    UsageAggregated,
)
from payments.events.v1.metering_events_pb2 import UsagePeriodClosed

from services.metering.app import late
from services.metering.domain.late import Closing
from services.runtime.database import UnitOfWork
from services.runtime.edge.values import moment_of
from services.runtime.events.envelope import Envelope, Reaction


async def on_usage_frozen(work: UnitOfWork, envelope: Envelope) -> None:
    """Keep the period of a charge as closed; once a charge, whichever of its facts comes first."""
    fact = envelope.payload
    if isinstance(fact, ChargeReversed):
        await late.taken_back(work, fact.charge_id)
        return
    assert isinstance(fact, UsageAggregated | RatingCompleted)
    closing = Closing(
        charge_id=fact.charge_id,
        org_id=fact.org_id,
        start_at=moment_of(fact.period.start_at),
        end_at=moment_of(fact.period.end_at),
        usage_ordinal=fact.usage_ordinal if fact.HasField("usage_ordinal") else None,
        usage_snapshot=fact.usage_snapshot,
        carried_skus=tuple(fact.carried_skus) if isinstance(fact, UsageAggregated) else (),
    )
    if isinstance(fact, UsageAggregated) and fact.adjusts_charge_id:
        await late.adjusted(work, fact.adjusts_charge_id, closing)
    else:
        await late.close_period(work, closing)


async def on_period_closed(work: UnitOfWork, envelope: Envelope) -> None:
    """Report usage that was stored after the charge had read it and before metering knew that the period was closed."""
    fact = envelope.payload
    assert isinstance(fact, UsagePeriodClosed)
    await late.report_unseen(work, fact.charge_id, fact.org_id)


# Each charge stands for itself, so one that fails holds up no other. `rating.completed` is there for charges that were
# made before `usage.aggregated` was published. Facts of one organisation come in their order: a closing, what moves it
# on, and its end.
REACTIONS = (
    Reaction(
        consumer="metering.closed-periods",
        subjects=("usage.aggregated", "rating.completed", "charge.reversed"),
        handler=on_usage_frozen,
        on_dead="skip",
    ),
    Reaction(
        consumer="metering.late-usage",
        subjects=("usage.period.closed",),
        handler=on_period_closed,
        on_dead="skip",
    ),
)
