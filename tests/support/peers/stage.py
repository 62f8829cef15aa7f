"""Payments at a peer while all that can go wrong does: connections, deaths of workers, and workers that are doubled.

The peer's own books are the oracle. Everything that is drawn comes from one seed.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.orchestration.app import engine
from services.orchestration.app.engine import Engine
from services.runtime.work import Claim
from tests.integration.orchestration.conftest import Bench
from tests.support.peers import house as house_peer
from tests.support.peers import localstripe as stripe_peer
from tests.support.peers.cutter import Cutter, Fault, at_random, cutting
from tests.support.peers.faulted import (
    Restless,
    check_none_is_too_much,
    compare,
    keep_credential,
    processor,
    requests,
    rested,
)

AT_ONCE = 64
CALL_TIMEOUT_MS = 2000
STALL_SECONDS = 2.2
# Tries to give an instruction to a payment that is under way.
TRIES = 40


class Died(Exception):
    """Stands for kill -9 of the worker: nothing of it is written any more."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A processor that runs as a process of its own.

    Attributes:
        config: names it as a processor of a merchant's own, behind an address.
        secret: what it is called with.
        good, poor: tokens that it approves and declines.
        net_minor: what it has charged and not given back, by the reference of what took it: its own books.
        conflicts: keys that came with more than one order, where it knows keys.
    """

    port: int
    config: Callable[[str], config_pb2.ProcessorConfig]
    secret: str
    good: str
    poor: str
    net_minor: Callable[[], Counter[str]]
    conflicts: Callable[[], list[str]] = list


@asynccontextmanager
async def hostile() -> AsyncIterator[Peer]:
    """localstripe: it knows no keys, and gives back whatever it is asked to."""
    async with stripe_peer.localstripe() as peer:
        yield Peer(
            peer.port,
            processor,
            stripe_peer.KEY,
            "pm_card_visa",
            "pm_card_chargeCustomerFail",
            peer.net_minor,
        )


@asynccontextmanager
async def keyed() -> AsyncIterator[Peer]:
    """A gateway that cannot be asked what became of an order: only the same order under its key tells."""
    settings = {name: value for name, value in house_peer.SETTINGS.items() if name != "lookup.path"}

    def config(base_url: str) -> config_pb2.ProcessorConfig:
        return config_pb2.ProcessorConfig(
            processor_id="stripe",
            adapter="http-json",
            base_url=base_url,
            credential_ref="peer",
            settings=settings,
        )

    async with house_peer.house() as peer:
        yield Peer(
            peer.port, config, house_peer.KEY, "good", "poor", peer.net_minor, peer.conflicts
        )


PEERS = {"hostile": hostile, "keyed": keyed}


@dataclass
class Mishaps:
    """What goes wrong in us.

    Attributes:
        on: false once all is well again.
        happened: how often what did.
    """

    on: bool = True
    happened: Counter[str] = field(default_factory=Counter)


@contextmanager
def mishaps(seed: int, deaths: float, doubled: float) -> Iterator[Mishaps]:
    """Let workers die at crash points, and be there twice with one lease.

    Args:
        deaths: share of the passes of crash points.
        doubled: share of the first runs.
    """
    chance = random.Random(seed)  # repeatable
    found = Mishaps()
    run = Engine.run

    def die(point: str) -> None:
        if found.on and chance.random() < deaths:
            found.happened[point] += 1
            raise Died(point)

    async def twice(self: Engine, lease: Claim, *, waited_for: bool) -> None:
        # Who finds it due later has read what the twin has written.
        if not (found.on and waited_for and chance.random() < doubled):
            return await run(self, lease, waited_for=waited_for)
        found.happened["doubled"] += 1
        runs = (run(self, lease, waited_for=waited_for) for _ in range(2))
        for error in await asyncio.gather(*runs, return_exceptions=True):
            if error is not None:
                raise error
        return None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "crashpoint", die)
        patched.setattr(Engine, "run", twice)
        yield found


async def configure(bench: Bench, peer: Peer, folder: Path, port: int) -> None:
    """Let a merchant's two methods go to a peer, behind a port."""
    base_url = f"http://127.0.0.1:{port}"
    keep_credential(folder, bench.tenant_id, base_url, secret=peer.secret)
    await bench.configure(
        *({"method": each, "processor_id": "stripe"} for each in ("card", "second_card")),
        processors=[peer.config(base_url)],
        timeouts={"call_timeout": {"seconds": CALL_TIMEOUT_MS // 1000}},
    )


async def faulted(
    bench: Bench,
    peer: Peer,
    folder: Path,
    *,
    seed: int,
    count: int,
    deaths: float = 0.08,
    doubled: float = 0.0,
    refunds: bool = True,
) -> None:
    """Make payments, and refunds of some, while everything goes wrong; heal, and compare with the peer's books.

    Raises:
        AssertionError: something was charged twice, or lost, or given back twice.
    """
    async with cutting(peer.port, STALL_SECONDS) as (cutter, port):
        await configure(bench, peer, folder, port)
        cutter.fault = at_random(seed, share=0.3)
        with mishaps(seed, deaths, doubled) as wrong:
            slots = asyncio.Semaphore(AT_ONCE)

            async def pay(fields: dict[str, Any]) -> str:
                async with slots:
                    return str((await bench.pay(**fields)).payment_id)

            made = requests(seed, count, peer.good, peer.poor)
            ids = await asyncio.gather(*(pay(each) for each in made))
            payments = await healed(bench, peer, cutter, wrong, ids)
            if refunds:
                wrong.on, cutter.fault = True, at_random(seed + 1, share=0.3)
                await asyncio.gather(*(_refund(bench, each) for each in payments[::3]))
                payments = await healed(bench, peer, cutter, wrong, ids)
        assert cutter.done.total() > cutter.done[Fault.NONE], "something was cut"
        assert wrong.happened or not deaths + doubled
        compare(payments, peer.net_minor())


async def healed(
    bench: Bench, peer: Peer, cutter: Cutter, wrong: Mishaps, ids: list[str]
) -> list[pb.Payment]:
    """Let all be well again, and what was left behind be taken over. Raises Amiss, Restless."""
    wrong.on, cutter.fault = False, lambda request: Fault.NONE

    async def later(seconds: float) -> int:
        await idle(bench)
        free(bench)
        return await bench.later(seconds)

    try:
        return await rested(ids, bench.get, later)
    except Restless as error:
        check_none_is_too_much(error.payments, peer.net_minor())
        raise


async def idle(bench: Bench) -> None:
    """Wait until nobody works on a payment."""
    for _ in range(3_000):
        if bench.runs.worker.under_way == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("workers do not come back")


def free(bench: Bench) -> None:
    """Let the leases of the dead run out, as they do some seconds later. Nobody must be at work."""
    bench.execute(
        "UPDATE orchestration.payment SET lease_until = now() - interval '1 second'"
        " WHERE tenant_id = %(tenant)s AND due_at IS NOT NULL"
    )


async def _refund(bench: Bench, payment: pb.Payment) -> None:
    """Ask for two thirds back, twice: the second request has to be refused."""
    if payment.status != pb.PAYMENT_STATUS_SUCCEEDED:
        return
    part = payment.amounts.captured.minor_units * 2 // 3
    for _ in range(2):
        request = service_pb.RefundPaymentRequest(
            request_id=str(uuid.uuid4()),
            payment_id=payment.payment_id,
            amount=type_pb2.Money(currency_code="USD", minor_units=part),
        )
        for _ in range(TRIES):
            try:
                await bench.payments.RefundPayment(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:
                    break
                await bench.later(30)
                await asyncio.sleep(0.05)
            else:
                break
