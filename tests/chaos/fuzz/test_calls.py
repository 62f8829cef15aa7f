"""Whatever is sent, no RPC and no route calls it a fault of ours, and no library's words reach a caller.

Hundreds of calls that are almost right, to every RPC over gRPC and to every route through the facade. The dice are
seeded, so that each run draws the same. TOLLMESH_FUZZ_CALLS draws more (`make chaos` does), TOLLMESH_FUZZ_SEED others.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import traceback
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from payments.pricing.v1 import pricing_service_pb2

from services.runtime.edge.status import DETAILS_KEY, ERROR_DOMAIN
from tests.chaos.fuzz.conftest import Target, seal
from tests.support.http import odd_http
from tests.support.http.odd_http import Answer, OddRequest
from tests.support.http.odd_requests import Known, damaged, forged_token, known_values, mutate

pytestmark = pytest.mark.xdist_group("fuzz-calls")

CALLS = int(os.environ.get("TOLLMESH_FUZZ_CALLS", "800"))
SEED = int(os.environ.get("TOLLMESH_FUZZ_SEED", "8"))
AT_A_TIME = 12
STREAM_S = 0.3
# What takes seconds by its nature is called less often.
SLOW = {"events.v1.EventService.TailEvents", "events.v1.EventService.TestWebhookEndpoint"}
# What ends the things that others are about: only at the end.
LAST = {
    "access.v1.AccessService.RevokeApiKey",
    "events.v1.EventService.CancelTimer",
    "events.v1.EventService.DeleteSchedule",
    "events.v1.EventService.DeleteWebhookEndpoint",
}
LAST_SHARE = 0.2

FAULTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
# How Go and Python speak of what they cannot read.
LIBRARIES = re.compile(
    rb"proto: |protojson|strconv\.|http: |grpc: |rpc error|json: (?:cannot|unsupported|invalid|unknown)|net/http|"
    rb"goroutine|syntax error \(|invalid character '|unexpected EOF|context canceled|connection refused|dial tcp|"
    rb"RST_STREAM|type mismatch|looking for beginning|cannot unmarshal|invalid URL escape|google\.protobuf\.|"
    rb"Traceback|psycopg|sqlalchemy|codec can't|JSONDecodeError|Expecting value|Expecting property|"
    rb"invalid literal for|unhashable|NoneType|object has no attribute|unexpected token"
)


# What went wrong, and the calls to which it happened.
Wrong = dict[str, list[str]]
Metadata = tuple[tuple[str, str], ...]


def method_of(name: str) -> MethodDescriptor:
    """An RPC by its name without `payments.`."""
    service, _, method = f"payments.{name}".rpartition(".")
    found: MethodDescriptor = (
        descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    )
    return found


def good_requests(target: Target) -> dict[str, Message]:
    """A good request of every RPC."""
    price = pricing_service_pb2.EvaluatePriceRequest(currency_code="USD")
    json_format.ParseDict(
        {"price": {"per_unit": {"unit_amount": "1.5"}}, "input": {"quantity": "3"}}, price
    )
    return {**target.good, "pricing.v1.PricingService.EvaluatePrice": price}


def batch_field(method: MethodDescriptor) -> str:
    """The field whose items are judged one by one; empty when the RPC has none."""
    for field in method.input_type.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if field.is_repeated and rules.ignore == validate_pb2.IGNORE_ALWAYS:
            return str(field.name)
    return ""


class Dice:
    """Draws requests: which RPC, and what is odd about it."""

    def __init__(self, target: Target, calls: int) -> None:
        self.calls = calls
        self.random = Random(SEED)
        self.good = good_requests(target)
        self.known: Known = known_values(self.good.values())
        self.names = sorted(self.good)
        self.tokens: dict[str, str] = {}
        self._quick = [name for name in self.names if name not in SLOW | LAST]
        self._turn = 0

    @property
    def is_first_round(self) -> bool:
        """True while every RPC is called as it is meant, so that there is something of all that they make."""
        return self._turn <= len(self.names)

    def draw(self) -> tuple[str, Message, list[str]]:
        """Return an RPC's name, a request, and where it is odd. Every RPC has its turn."""
        self._turn += 1
        name = self.names[self._turn % len(self.names)]
        is_early = self._turn < self.calls * (1 - LAST_SHARE)
        if (name in SLOW and self.random.random() < 0.9) or (name in LAST and is_early):
            name = self.random.choice(self._quick)
        request = type(self.good[name])()
        request.CopyFrom(self.good[name])
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(UUID(int=self.random.getrandbits(128), version=4))  # type: ignore[attr-defined]
        paths = [
            mutate(self.random, request, self.known)
            for _ in range(self.random.choice((0, 1, 1, 1, 1, 2, 4)))
            if not self.is_first_round
        ]
        if self.is_first_round:
            return name, request, paths
        for token in ("page_token", "after"):
            if token in request.DESCRIPTOR.fields_by_name and self.random.random() < 0.4:
                forged = forged_token(self.random, self.tokens.get(name, ""), seal)
                setattr(request, token, forged)
                paths.append(token)
        return name, request, paths


async def test_every_rpc_survives(target: Target) -> None:
    dice = Dice(target, CALLS * 5 // 8)
    await learn_tokens(target, dice)
    channel = target.mesh.channel("oddwood-tenant")
    codes: Counter[str] = Counter()
    reached: set[str] = set()
    wrong: Wrong = defaultdict(list)

    async def one(name: str, data: bytes, paths: list[str], metadata: Metadata) -> None:
        method = method_of(name)
        code, detail = await call(channel, method, data, metadata)
        codes[code.name] += 1
        if code is not grpc.StatusCode.INVALID_ARGUMENT:
            reached.add(name)
        said = f"{name} {paths} {data!r:.2000}: {code} {detail}"
        if code in FAULTS:
            wrong[f"{name} {code} {detail}"].append(said)
        batch = batch_field(method)
        in_one_item = bool(paths) and all(path.startswith(f"{batch}[") for path in paths)
        if batch and in_one_item and not metadata and code is not grpc.StatusCode.OK:
            wrong[f"one item failed its batch: {name} {detail}"].append(said)

    def calls() -> Any:
        for _ in range(dice.calls):
            name, request, paths = dice.draw()
            data = request.SerializeToString()
            metadata: Metadata = ()
            if not dice.is_first_round:
                metadata = odd_metadata(dice.random)
                if dice.random.random() < 0.1:
                    data, paths = damaged(dice.random, data), ["bytes"]
            yield one(name, data, paths, metadata)

    await at_a_time(calls())
    assert not wrong and not target.faults, told(wrong, target)
    assert reached >= set(dice.names) - SLOW - LAST, "all calls of some RPC ended at its rules"
    assert codes["INVALID_ARGUMENT"] > codes["OK"] / 20, codes


async def test_every_route_survives(target: Target) -> None:
    dice = Dice(target, CALLS * 3 // 8)
    address = urlsplit(target.url).netloc
    statuses: Counter[int] = Counter()
    wrong: Wrong = defaultdict(list)
    routes = {name: odd_http.rules_of(method_of(name)) for name in dice.names}

    async def one(request: OddRequest) -> None:
        answer = await odd_http.exchange(address, request)
        statuses[answer.status] += 1
        said = f"{request.method} {request.target!r:.300} {request.headers} {request.body!r:.600}: {answer.raw!r:.1500}"
        if answer.status >= 400 and request.method != "HEAD":
            for fault in error_faults(answer):
                wrong[fault].append(said)

    def calls() -> Any:
        for _ in range(dice.calls):
            name, message, _ = dice.draw()
            if not routes[name] or name in SLOW:
                continue
            try:
                request = odd_http.of(dice.random, dice.random.choice(routes[name]), message)
            except (json_format.Error, DecodeError, TypeError):
                continue  # no JSON has it
            request.headers.append(("Authorization", f"Bearer {target.key}"))
            if dice.random.random() < 0.3:
                odd_http.disturb(dice.random, request)
            yield one(request)

    await at_a_time(calls())
    assert not wrong and not target.faults, told(wrong, target)
    assert statuses[200] > dice.calls / 20 and statuses[400] > dice.calls / 20, statuses


def error_faults(answer: Answer) -> Iterator[str]:
    """What is wrong with an error: each is a google.rpc.Status in JSON that says why, in words of our own."""
    if answer.status >= 500 and answer.status not in (501, 505):  # no HTTP as it is spoken here
        yield f"status {answer.status}"
    if answer.headers.get("content-type") != "application/json":
        yield f"no JSON: {answer.raw[:120]!r}"
        return
    status = json.loads(answer.body)
    reasons = [item["reason"] for item in status["details"] if item.get("domain") == ERROR_DOMAIN]
    if not (status["code"] > 0 and status["message"] and len(reasons) == 1):
        yield "no Status with one ErrorInfo"
    if foreign := LIBRARIES.search(answer.body):
        yield f"words of a library: {foreign[0]!r} {status['message'][:80]}"


# ---- Calls


async def at_a_time(calls: Any) -> None:
    """Await calls, several at a time, drawn one after another; the first that fails ends it."""
    free = asyncio.Semaphore(AT_A_TIME)

    async def run(call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        for call in calls:
            await free.acquire()
            group.create_task(run(call))


async def call(
    channel: grpc.aio.Channel, method: MethodDescriptor, data: bytes, metadata: Metadata
) -> tuple[grpc.StatusCode, str]:
    """Call an RPC with bytes; returns its code and, for a refusal, its reason and message."""
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            stream: Any = channel.stream_stream(path)
            async for _ in stream(_once(data), metadata=metadata, timeout=30):
                pass
        elif method.server_streaming:
            feed: Any = channel.unary_stream(path)
            async for _ in feed(data, metadata=metadata, timeout=STREAM_S):
                pass
        else:
            unary: Any = channel.unary_unary(path)
            await unary(data, metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        code = error.code()
        if method.server_streaming and code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return grpc.StatusCode.OK, ""
        return code, explained(error)
    return grpc.StatusCode.OK, ""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def explained(error: grpc.aio.AioRpcError) -> str:
    """Reason and message of a refusal, which has exactly one ErrorInfo of ours."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            status = status_pb2.Status.FromString(value)
            info = error_details_pb2.ErrorInfo()
            assert any(detail.Unpack(info) for detail in status.details)
            assert info.domain == ERROR_DOMAIN
            return f"{info.reason}: {status.message}"
    raise AssertionError(f"a refusal without a reason: {error.code()} {error.details()}")


def odd_metadata(dice: Random) -> Metadata:
    """Metadata that a call may come with; mostly none."""
    if dice.random() < 0.9:
        return ()
    odd: tuple[Metadata, ...] = (
        (("traceparent", "x"),),
        (("traceparent", "cc-" + "a" * 32 + "-" + "b" * 16 + "-01-more"), ("tracestate", "a=1,,b")),
        (("x-request-id", "r" * 5000),),
        (("x-correlation-id", "'\" %ff \\u0000"),),
        (("idempotency-key", "a"), ("idempotency-key", "b")),
        (("idempotency-key", "k" * 5000),),
        (("if-match", "*"),),
    )
    return dice.choice(odd)


async def learn_tokens(target: Target, dice: Dice) -> None:
    """Ask every List for a page of one, so that tokens are forged from true ones."""
    channel = target.mesh.channel("oddwood-tenant")
    for name, good in dice.good.items():
        method = method_of(name)
        if "page_size" not in method.input_type.fields_by_name or method.server_streaming:
            continue
        request: Any = type(good)()
        request.CopyFrom(good)
        request.page_size = 1
        assert method.containing_service is not None
        path = f"/{method.containing_service.full_name}/{method.name}"
        unary: Any = channel.unary_unary(path)
        answer: Any = message_factory.GetMessageClass(method.output_type).FromString(
            await unary(request.SerializeToString(), timeout=30)
        )
        token = getattr(answer, "next_page_token", "") or getattr(answer, "next_cursor", "")
        dice.tokens[name] = token


def told(wrong: Wrong, target: Target) -> str:
    """Every kind of fault once, and the traces of what the pipeline called a fault of ours."""
    lines = [f"*** {len(cases)} times {fault}\n    {cases[0]}" for fault, cases in wrong.items()]
    traces = Counter("".join(traceback.format_exception(fault)[-7:]) for fault in target.faults)
    lines += [f"--- {count} times\n{text}" for text, count in traces.most_common()]
    return "\n" + "\n".join(lines[:40])
