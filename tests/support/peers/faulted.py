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

AT_REST = {
    pb.PAYMENT_STATUS_SUCCEEDED,
    pb.PAYMENT_STATUS_FAILED,
    pb.PAYMENT_STATUS_PARTIALLY_PAID,
    pb.PAYMENT_STATUS_AUTHORIZED,
    pb.PAYMENT_STATUS_VOIDED,
}
OPEN = {
    pb.ATTEMPT_STATUS_SENT,
    pb.ATTEMPT_STATUS_UNKNOWN,
    pb.ATTEMPT_STATUS_PENDING,
    pb.ATTEMPT_STATUS_MANUAL,
}
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
    secret: str = KEY,
) -> None:
    """Let a tenant send the peer's key to it."""
    place = folder / tenant_id
    place.mkdir(exist_ok=True)
    kept = {"secret": secret, "base_urls": [base_url], "webhook_secrets": list(webhook_secrets)}
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


def requests(
    seed: int, count: int, good: str = "pm_card_visa", poor: str = "pm_card_chargeCustomerFail"
) -> list[dict[str, Any]]:
    """Return the fields of payments: of one or two steps, some by a card that is declined."""
    chance = random.Random(seed)  # repeatable
    made = []
    for _ in range(count):
        total = chance.randint(200, 99_999)
        parts = [total] if chance.random() < 0.6 else [total // 3, total - total // 3]
        cards = chance.choices([good, poor], [0.85, 0.15], k=2)
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


class Amiss(AssertionError):
    """The peer's books and ours differ, or more was taken or given back than may be."""


class Restless(AssertionError):
    """Payments do not come to rest."""

    def __init__(self, payments: list[pb.Payment]) -> None:
        late = {
            each.payment_id: [pb.AttemptStatus.Name(a.status) for a in each.attempts]
            for each in payments
            if not _rests(each)
        }
        super().__init__(f"{len(late)} do not come to rest: {late}")
        self.payments = payments


async def rested(
    ids: list[str],
    get: Callable[[str], Awaitable[pb.Payment]],
    later: Callable[[float], Awaitable[int]],
) -> list[pb.Payment]:
    """Let time pass until every payment rests, and what was asked of it is done. Raises Restless."""
    found: dict[str, pb.Payment] = {}
    for _ in range(20):
        for payment_id in ids:
            if payment_id not in found or not _rests(found[payment_id]):
                found[payment_id] = await get(payment_id)
        if all(map(_rests, found.values())):
            return [found[payment_id] for payment_id in ids]
        await later(90)
        await asyncio.sleep(0.05)
    raise Restless(list(found.values()))


def _rests(payment: pb.Payment) -> bool:
    under_way = (each.status == pb.INSTRUCTION_STATUS_PENDING for each in payment.instructions)
    if any(each.status == pb.ATTEMPT_STATUS_MANUAL for each in payment.attempts):
        return True  # it is for an operator
    return payment.status in AT_REST and not any(under_way)


def check_none_is_too_much(payments: list[pb.Payment], net_minor: Counter[str]) -> None:
    """Of payments under way, too: nothing is at the peer that is not said, or that may not be. Raises Amiss."""
    known: set[str] = set()
    for payment in payments:
        amounts = {each.attempt_id: each.amount.minor_units for each in payment.attempts}
        known |= amounts.keys()
        for ref, amount_minor in amounts.items():
            if not 0 <= net_minor[ref] <= amount_minor:
                raise Amiss(f"{net_minor[ref]} of {ref} is at the peer: {payment}")
        at_peer = sum(net_minor[ref] for ref in amounts)
        kept = payment.amounts.captured.minor_units - payment.amounts.refunded.minor_units
        is_open = any(each.status in OPEN for each in payment.attempts)
        if at_peer > payment.plan.total_amount.minor_units or (at_peer != kept and not is_open):
            raise Amiss(f"{at_peer} is at the peer, and not what is said: {payment}")
    if lost := {ref for ref in net_minor if net_minor[ref]} - known:
        raise Amiss(f"charges at the peer belong to no attempt: {sorted(lost)}")


def compare(payments: list[pb.Payment], net_minor: Counter[str]) -> None:
    """No charge twice and none lost: each payment's attempts have at the peer what it says was kept. Raises Amiss."""
    check_none_is_too_much(payments, net_minor)
    for payment in payments:
        at_peer = sum(net_minor[each.attempt_id] for each in payment.attempts)
        kept = payment.amounts.captured.minor_units - payment.amounts.refunded.minor_units
        whole = payment.plan.total_amount.minor_units - payment.amounts.refunded.minor_units
        said = whole if payment.status == pb.PAYMENT_STATUS_SUCCEEDED else 0
        if not at_peer == kept == said:
            raise Amiss(f"{at_peer} is not what its status says: {payment}")
