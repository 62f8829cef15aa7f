"""Payments at a peer whose connections are cut: what was charged there is compared with what is said here."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb

from tests.support.peers.localstripe import KEY

AT_REST = {pb.PAYMENT_STATUS_SUCCEEDED, pb.PAYMENT_STATUS_FAILED, pb.PAYMENT_STATUS_PARTIALLY_PAID}
SETTINGS = {
    "automatic_methods": "false",
    "created_filter": "false",
    "idempotency_keys": "false",
}


def keep_credential(
    folder: Path,
    tenant_id: str,
    base_url: str,
    name: str = "peer",
    webhook_secrets: Sequence[str] = (),
) -> None:
    """Let a tenant send the peer's key to it."""
    place = folder / tenant_id
    place.mkdir(exist_ok=True)
    kept = {"secret": KEY, "base_urls": [base_url], "webhook_secrets": list(webhook_secrets)}
    (place / f"{name}.json").write_text(json.dumps(kept))


def processor(
    base_url: str, processor_id: str = "stripe", credential_ref: str = "peer"
) -> config_pb2.ProcessorConfig:
    """Name the peer as a processor of a merchant's own."""
    return config_pb2.ProcessorConfig(
        processor_id=processor_id,
        adapter="stripe",
        base_url=base_url,
        credential_ref=credential_ref,
        settings=SETTINGS,
    )


def requests(seed: int, count: int) -> list[dict[str, Any]]:
    """Return the fields of payments: of one or two steps, some by a card that is declined."""
    chance = random.Random(seed)  # repeatable
    made = []
    for _ in range(count):
        total = chance.randint(200, 99_999)
        parts = [total] if chance.random() < 0.6 else [total // 3, total - total // 3]
        cards = chance.choices(["pm_card_visa", "pm_card_chargeCustomerFail"], [0.85, 0.15], k=2)
        methods = [
            {"method": method, "token": card, "max_amount": f"{part // 100}.{part % 100:02}"}
            for method, card, part in zip(("card", "second_card"), cards, parts, strict=False)
        ]
        made.append(
            {
                "order_id": f"order-{uuid.UUID(int=chance.getrandbits(128))}",
                "amount": f"{total // 100}.{total % 100:02}",
                "payment_methods": methods,
            }
        )
    return made


async def rested(
    ids: list[str],
    get: Callable[[str], Awaitable[pb.Payment]],
    later: Callable[[float], Awaitable[int]],
) -> list[pb.Payment]:
    """Let time pass until every payment rests; what does not is lost."""
    for _ in range(20):
        payments = [await get(payment_id) for payment_id in ids]
        if all(each.status in AT_REST for each in payments):
            return payments
        await later(90)
        await asyncio.sleep(0.05)
    raise AssertionError([each for each in payments if each.status not in AT_REST])


def compare(payments: list[pb.Payment], net_minor: Counter[str]) -> None:
    """No charge twice and none lost: each payment's attempts have at the peer what it says was kept."""
    known: set[str] = set()
    for payment in payments:
        refs = {each.attempt_id for each in payment.attempts}
        known |= refs
        at_peer = sum(net_minor[ref] for ref in refs)
        kept = payment.amounts.captured.minor_units - payment.amounts.refunded.minor_units
        assert at_peer == kept, payment
        whole = payment.plan.total_amount.minor_units
        assert at_peer == (whole if payment.status == pb.PAYMENT_STATUS_SUCCEEDED else 0), payment
    assert set(net_minor) <= known, "a charge at the peer belongs to no attempt"
