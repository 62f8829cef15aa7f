"""The running engine, driven by anything that can happen, at both peers: what holds is read from their own books.

A state machine: what callers ask for, what networks and workers suffer, what processors tell by themselves, and time.
After each run all is well again, payments come to rest, and every invariant is checked.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import grpc
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.orchestration.app import engine
from services.orchestration.domain.findings import Heard, Word
from services.orchestration.domain.instructions import PaymentUnderWay
from services.runtime.context import CallContext, acting
from services.runtime.postgres.roles import DatabaseUrls
from tests.integration.orchestration.conftest import Bench, Served, serving
from tests.support.peers.cutter import Cutter, Fault, cutting
from tests.support.peers.faulted import check_none_is_too_much
from tests.support.peers.stage import (
    PEERS,
    STALL_SECONDS,
    Died,
    Mishaps,
    Peer,
    configure,
    free,
    healed,
    idle,
)

RUNS = 100 if int(os.environ.get("TOLLMESH_FAULTED_PAYMENTS", "20")) >= 1_000 else 6
STEPS = 14
POINTS = (
    "orchestration.payment.before_send",
    "orchestration.payment.after_send",
    "orchestration.payment.before_verify",
    "orchestration.payment.after_verify",
    "orchestration.attempt.replay.before_send",
    "orchestration.attempt.replay.after_send",
)
HARMS = [each for each in Fault if each is not Fault.NONE]
TROUBLE = st.tuples(
    st.lists(st.sampled_from(HARMS), min_size=0, max_size=3),
    st.sampled_from(("", "", "", *POINTS)),
)
# Longer than any key is known.
BEYOND_KEYS_S = 25 * 3600
RECEIVED_OR_FAILED = ("payment.received", "payment.failed")
TAKEN = {pb.OPERATION_CHARGE, pb.OPERATION_CAPTURE}
ResultT = TypeVar("ResultT")


class World:
    """A mesh and a peer, in a loop of their own, for a machine that waits for each step."""

    def __init__(self, urls: DatabaseUrls, folder: Path, peer: str) -> None:
        self.urls = urls
        self.folder = folder
        self._name = peer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> World:
        self._thread.start()
        self.run(self._enter())
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _enter(self) -> None:
        given: dict[str, Any] = {
            "processor_allow": "127.0.0.1",
            "processor_credentials_dir": self.folder,
        }
        enter = self._stack.enter_async_context
        self.peer: Peer = await enter(PEERS[self._name]())
        self.served: Served = await enter(serving(self.urls, [], **given))
        self.cutter: Cutter
        self.cutter, self.port = await enter(cutting(self.peer.port, STALL_SECONDS))

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Have something done there, and wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)


@dataclass
class Ahead:
    """What is to go wrong next.

    Attributes:
        faults: of the next calls.
        point: where the next worker dies; empty for nowhere.
    """

    faults: list[Fault] = field(default_factory=list)
    point: str = ""
    deaths: int = 0

    def fault(self, request: bytes) -> Fault:
        """Say what happens to a call."""
        return self.faults.pop(0) if self.faults else Fault.NONE

    def crashpoint(self, name: str) -> None:
        """Die, once, at the point."""
        if name == self.point:
            self.point = ""
            self.deaths += 1
            raise Died(name)


class Payments(RuleBasedStateMachine):
    """Payments of one tenant, and what can happen to them."""

    world: ClassVar[World]
    seen: ClassVar[Counter[str]]

    @initialize()
    def begin(self) -> None:
        mesh, runs, booker, clock, apply = self.world.served
        tenant_id = f"t-{uuid.uuid4().hex[:12]}"
        self.ahead = Ahead()
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(engine, "crashpoint", self.ahead.crashpoint)
        self.world.cutter.fault = self.ahead.fault
        self.made: dict[str, service_pb.CreatePaymentRequest] = {}
        self.before = self.world.peer.net_minor()

        async def enter() -> Bench:
            # Channels belong to the loop that they are made in.
            bench = Bench(mesh, runs, booker, clock, self.world.urls, tenant_id, apply)
            await configure(bench, self.world.peer, self.world.folder, self.world.port)
            return bench

        self.bench = self.world.run(enter())

    # ---- callers

    @rule(
        parts=st.lists(st.tuples(st.integers(100, 9_999), st.booleans()), min_size=1, max_size=2),
        held=st.booleans(),
        again=st.integers(0, 2),
        trouble=TROUBLE,
    )
    def submit(
        self,
        parts: list[tuple[int, bool]],
        held: bool,
        again: int,
        trouble: tuple[list[Fault], str],
    ) -> None:
        """A payment of one or two cards, asked for once or several times at once."""
        self.ahead.faults, self.ahead.point = list(trouble[0]), trouble[1]
        peer = self.world.peer
        total = sum(amount for amount, _ in parts)
        # One card in eight is declined.
        tokens = [peer.poor if amount % 8 == 0 and poor else peer.good for amount, poor in parts]
        methods = [
            {"method": method, "token": token, "max_amount": f"{amount // 100}.{amount % 100:02}"}
            for method, token, (amount, _) in zip(
                ("card", "second_card"), tokens, parts, strict=False
            )
        ]
        request = Bench.request(
            order_id=f"o-{len(self.made)}",
            amount=f"{total // 100}.{total % 100:02}",
            payment_methods=methods,
            capture="manual" if held else None,
        )

        async def pay() -> list[str]:
            calls = (self.bench.payments.CreatePayment(request) for _ in range(1 + again))
            return [answer.payment.payment_id for answer in await asyncio.gather(*calls)]

        ids = set(self.world.run(pay()))
        assert len(ids) == 1, "the same request is the same payment"
        self.made[ids.pop()] = request
        self.seen["submit"] += 1
        self.seen["duplicate submit"] += again > 0

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        what=st.sampled_from(["capture", "void", "refund"]),
        share=st.integers(1, 3),
        keep_open=st.booleans(),
        trouble=TROUBLE,
    )
    def instruct(
        self,
        data: st.DataObject,
        what: str,
        share: int,
        keep_open: bool,
        trouble: tuple[list[Fault], str],
    ) -> None:
        """Ask for something that may or may not be possible."""
        self.ahead.faults, self.ahead.point = list(trouble[0]), trouble[1]
        payment = self.get(data.draw(st.sampled_from(sorted(self.made))))
        place = {"request_id": str(uuid.uuid4()), "payment_id": payment.payment_id}
        amounts = payment.amounts
        most = (amounts.refundable if what == "refund" else amounts.authorized).minor_units
        money = type_pb2.Money(currency_code="USD", minor_units=max(most // share, 1))
        stub = self.bench.payments

        async def ask() -> None:
            if what == "capture":
                asked = service_pb.CapturePaymentRequest(amount=money, keep_open=keep_open, **place)
                await stub.CapturePayment(asked)
            elif what == "void":
                await stub.VoidPayment(service_pb.VoidPaymentRequest(**place))
            else:
                await stub.RefundPayment(service_pb.RefundPaymentRequest(amount=money, **place))

        try:
            self.world.run(ask())
        except grpc.aio.AioRpcError as refused:
            possible = {
                grpc.StatusCode.ABORTED,
                grpc.StatusCode.FAILED_PRECONDITION,
                grpc.StatusCode.INVALID_ARGUMENT,
            }
            assert refused.code() in possible, refused
        else:
            self.seen[what] += 1

    # ---- networks, workers, time

    @rule(faults=st.lists(st.sampled_from(HARMS), min_size=1, max_size=4))
    def harm(self, faults: list[Fault]) -> None:
        """The next calls are cut, stalled, answered with an error, or their replies are lost."""
        self.ahead.faults = list(faults)

    @rule(point=st.sampled_from(POINTS))
    def kill(self, point: str) -> None:
        """The next worker that comes by dies there."""
        self.ahead.point = point

    @rule(seconds=st.sampled_from([1, 90, 90, 4_000, BEYOND_KEYS_S]))
    def pass_time(self, seconds: int) -> None:
        """Time passes, leases run out, and what is due is worked on."""
        self.world.run(idle(self.bench))
        free(self.bench)
        self.world.run(self.bench.later(seconds))
        self.seen["beyond keys"] += seconds == BEYOND_KEYS_S

    # ---- processors

    @precondition(lambda self: self.made)
    @rule(data=st.data(), times=st.integers(1, 2), stale=st.booleans())
    def tell(self, data: st.DataObject, times: int, stale: bool) -> None:
        """The processor tells of what it took: again, late, or what it knew long ago."""
        net = self.world.peer.net_minor()
        attempts = [each for one in self.made for each in self.get(one).attempts]
        taken = [each for each in attempts if each.operation == pb.OPERATION_CHARGE]
        taken = [each for each in taken if net[each.attempt_id] == each.amount.minor_units]
        if not taken:
            return
        attempt = data.draw(st.sampled_from(taken))
        heard = Heard(
            Word.PENDING if stale else Word.DONE,
            attempt.attempt_id,
            attempt.amount.minor_units,
            "USD",
            attempt.provider_ref,
        )
        call = CallContext(self.bench.tenant_id, "test", frozenset(), "c", str(uuid.uuid4()))

        async def apply() -> None:
            assert self.bench.apply is not None
            for _ in range(times):
                with acting(call):
                    try:
                        await self.bench.apply(heard)
                    except PaymentUnderWay:
                        return

        self.world.run(apply())
        self.seen["told"] += 1

    # ---- what holds

    def get(self, payment_id: str) -> pb.Payment:
        return self.world.run(self.bench.get(payment_id))

    def teardown(self) -> None:
        """All is well again: everything comes to rest, or is for an operator; then the books are compared."""
        if not hasattr(self, "bench"):
            return
        try:
            self.ahead.point, self.ahead.faults = "", []
            world, wrong = self.world, Mishaps()
            payments = world.run(
                healed(self.bench, world.peer, world.cutter, wrong, list(self.made))
            )
            net = world.peer.net_minor()
            net.subtract(self.before)
            # I1, I3, I4, I10, I15 by the peer's books.
            check_none_is_too_much(payments, Counter({ref: net[ref] for ref in net if net[ref]}))
            assert not world.peer.conflicts(), "I6: one key, one order"
            told = self.told()
            for payment in payments:
                self.check(payment, net, told)
            self.seen["died"] += self.ahead.deaths
        finally:
            self.patched.undo()

    def told(self) -> Counter[tuple[str, str]]:
        """How often each event was published, by subject and by what it is about."""
        return Counter(
            (subject, str(getattr(event, "attempt_id", "") or getattr(event, "payment_id", "")))
            for subject, event in self.bench.events()
        )

    def check(self, payment: pb.Payment, net: Counter[str], told: Counter[tuple[str, str]]) -> None:
        """Check what holds of one payment at rest."""
        at_peer = sum(net[each.attempt_id] for each in payment.attempts)
        result, total = payment.result, payment.plan.total_amount.minor_units
        processed, left = (
            each.minor_units for each in (result.total_processed, result.remaining_amount)
        )
        assert processed >= 0 and left >= 0 and processed + left == total, "I5"
        assert payment.amounts.refunded.minor_units <= payment.amounts.captured.minor_units, "I10"
        for step in range(len(payment.plan.steps)):
            live = [
                each
                for each in payment.attempts
                if each.step_index == step
                and each.operation in (pb.OPERATION_CHARGE, pb.OPERATION_AUTHORIZE)
                and each.status in (pb.ATTEMPT_STATUS_SUCCEEDED, pb.ATTEMPT_STATUS_MANUAL)
            ]
            assert len(live) <= 1, "I6: one live attempt a step"
        ends = sum(told[subject, payment.payment_id] for subject in RECEIVED_OR_FAILED)
        manual = any(each.status == pb.ATTEMPT_STATUS_MANUAL for each in payment.attempts)
        if payment.status in (pb.PAYMENT_STATUS_AUTHORIZED, pb.PAYMENT_STATUS_VOIDED):
            assert ends == 0 and at_peer == 0, "I2, I8"
        elif not manual:
            assert ends == 1, f"I8: {ends} ends of {payment.payment_id}"
        assert ends <= 1, "I8"
        if payment.status == pb.PAYMENT_STATUS_FAILED and not manual:
            assert at_peer == 0, "I2"
        for each in payment.attempts:
            steps = told["payment.step.succeeded", each.attempt_id]
            assert steps <= 1, "I8: a success is told once"
            if each.status == pb.ATTEMPT_STATUS_SUCCEEDED and each.operation in TAKEN:
                assert steps == 1, "I8: a success is told"

        async def again() -> pb.Payment:
            return (await self.bench.payments.CreatePayment(self.made[payment.payment_id])).payment

        assert self.world.run(again()) == payment, "I7: the same request finds the same payment"
        self.seen[pb.PaymentStatus.Name(payment.status)] += 1


@pytest.fixture(params=PEERS)
def world(
    request: pytest.FixtureRequest, database_url: DatabaseUrls, tmp_path: Path
) -> Iterator[World]:
    """A mesh and a peer."""
    with World(database_url, tmp_path, request.param) as found:
        yield found


def test_whatever_happens_no_charge_is_doubled_or_lost(world: World) -> None:
    class Here(Payments):
        seen: ClassVar[Counter[str]] = Counter()

    Here.world = world
    given = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        database=None,
        # What fails is run as it came: a shorter history at a living peer is another one.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Here, settings=given)
    for each in ("submit", "duplicate submit", "died", "PAYMENT_STATUS_SUCCEEDED"):
        assert Here.seen[each], Here.seen
