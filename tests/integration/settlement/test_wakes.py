"""What falls due is served when it does: nobody waits for the next look of a worker."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from payments.settlement.v1 import payout_service_pb2 as service_pb
from payments.settlement.v1 import settlement_pb2 as pb

from services.settlement import work
from tests.support.postgres.server import DatabaseUrls
from tests.support.settlement.paying import Partnered, new_partnered, settlement_world, usd

NEVER_SECONDS = 3600.0
GIVE_UP_SECONDS = 30.0


async def test_each_step_is_served_without_a_look(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "POLL_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(work, "SWEEP_POLL_SECONDS", NEVER_SECONDS)
    async with settlement_world(database, works=True) as desk:
        partnered = new_partnered(desk)
        # So that every worker has had its first look, and found nothing.
        await asyncio.sleep(0.2)
        await partnered.threshold(50_00)
        partnered.earns(60_00, 20_00)
        await partnered.billing.charge(day=1)
        await _posted(partnered, pb.PAYOUT_KIND_REALTIME, 1)
        asked = service_pb.CreatePayoutRequest(
            request_id=str(uuid4()), party="north", amount=usd(5_00)
        )
        payout_id = (await partnered.payouts.CreatePayout(asked)).payout.payout_id
        await _posted(partnered, pb.PAYOUT_KIND_REQUESTED, 1)
        payment = service_pb.RecordPayoutPaymentRequest(
            request_id=str(uuid4()), payout_id=payout_id, payment_reference="wire"
        )
        await partnered.payouts.RecordPayoutPayment(payment)
        await _posted(partnered, pb.PAYOUT_KIND_REQUESTED, 2)
        back = service_pb.RecordPayoutReturnRequest(
            request_id=str(uuid4()), payout_id=payout_id, return_code="R01"
        )
        await partnered.payouts.RecordPayoutReturn(back)
        await _posted(partnered, pb.PAYOUT_KIND_REQUESTED, 3)
        sweep = service_pb.SweepCommissionsRequest(request_id=str(uuid4()))
        await partnered.payouts.SweepCommissions(sweep)
        await _posted(partnered, pb.PAYOUT_KIND_SWEEP, 1)


async def _posted(partnered: Partnered, kind: pb.PayoutKind.ValueType, steps: int) -> None:
    """Wait until so many steps of the one payout of a kind are in the books."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            found = [each for each in await partnered.list_payouts() if each.kind == kind]
            if found and sum(bool(step.posting_id) for step in found[0].postings) == steps:
                return
            await asyncio.sleep(0.01)
