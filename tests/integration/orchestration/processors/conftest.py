"""What every adapter is tried with: a processor behind it, instruments, and the processor's own books as the oracle."""

from __future__ import annotations

import json
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.orchestration import bootstrap, manifest
from services.orchestration.adapters.credentials import Credentials
from services.orchestration.adapters.registry import Registry
from services.orchestration.adapters.sandbox import sandbox
from services.orchestration.adapters.wire import Wire
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.ports import Inquiry, Order, Processor
from services.runtime.addresses import AllowList
from services.runtime.context import CallContext, acting
from services.runtime.manifests import Manifest
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.service import Runtime, Service
from tests.support.mesh.serving import running
from tests.support.peers.cutter import Cutter, Fault, cutting
from tests.support.peers.faulted import keep_credential, processor
from tests.support.peers.house import KEY as HOUSE_KEY
from tests.support.peers.house import SETTINGS, House, house
from tests.support.peers.localstripe import KEY, LocalStripe, localstripe

from ..conftest import Bench, serving

STRIPE_SETTINGS = {
    "automatic_methods": "false",
    "created_filter": "false",
    "idempotency_keys": "false",
}


@dataclass
class Subject:
    """A processor under test.

    Attributes:
        approve, decline: tokens that it approves and declines.
        net_minor: what it has charged and not given back, by the reference of what took it; its own books.
        cutter: makes faults of calls; None where no network lies between.
        decline_codes: error and failure code that a decline is given.
        unreachable: the same behind a port where nobody listens.
    """

    processor: Processor
    now: Callable[[], datetime]
    approve: str
    decline: str
    net_minor: Callable[[], Counter[str]]
    cutter: Cutter | None = None
    unreachable: Processor | None = None
    decline_codes: tuple[str, str] = ("declined", "declined")
    # Part of the request that moves money.
    moving: bytes = b""
    # A defect of the processor itself.
    captures_what_was_let_go: bool = False

    def order(self, amount_minor: int = 1000, currency: str = "USD", **more: object) -> Order:
        """Make an order of its own."""
        ref = f"att_{uuid.uuid4()}"
        given = {"token": self.approve, **more}
        return Order(uuid.uuid4().hex, ref, amount_minor, currency, **given)  # type: ignore[arg-type] # texts

    def inquiry(self, operation: Operation, order: Order, provider_ref: str = "") -> Inquiry:
        """Ask what became of an order."""
        return Inquiry(operation, order, self.now(), provider_ref)

    @contextmanager
    def fault(self, fault: Fault, part: bytes) -> Iterator[None]:
        """Do this to every call that holds a text."""
        assert self.cutter is not None
        self.cutter.fault = lambda request: fault if part in request else Fault.NONE
        yield
        self.cutter.fault = lambda request: Fault.NONE


@dataclass(frozen=True, slots=True)
class Ground:
    """What processors are built on."""

    runtime: Runtime
    urls: DatabaseUrls
    tenant_id: str
    folder: Path

    def build(self, config: ProcessorConfig, base_url: str, secret: str = KEY) -> Processor:
        """Build a processor that this tenant may reach."""
        place = self.folder / self.tenant_id
        place.mkdir(exist_ok=True)
        kept = {"secret": secret, "base_urls": [base_url]}
        name = f"c-{uuid.uuid4().hex[:8]}"
        (place / f"{name}.json").write_text(json.dumps(kept))
        config = ProcessorConfig(
            config.processor_id, config.adapter, base_url, name, config.settings
        )
        registry, _ = self.registry()
        assert registry.check(config) == []
        return registry.build(config)

    def registry(self) -> tuple[Registry, Wire]:
        """Return what builds processors of this tenant."""
        return self.given.registry, self.given.wire

    @property
    def given(self) -> _Built:
        return _BUILT[id(self.runtime)]


@dataclass(frozen=True, slots=True)
class _Built:
    registry: Registry
    wire: Wire


_BUILT: dict[int, _Built] = {}


@pytest.fixture(scope="module")
async def ground(
    database_url: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    """A running service, and a tenant to act for."""
    folder = tmp_path_factory.mktemp("credentials")
    taken: list[Runtime] = []

    def build(runtime: Runtime) -> Service:
        taken.append(runtime)
        service = bootstrap.assemble(runtime).service
        return Service(service.servicers, stop=service.stop)

    served = Manifest("orchestration", needs=manifest.SERVICE.needs, builder=build)
    async with running(database_url, [served]):
        (runtime,) = taken
        allow = AllowList.parse("127.0.0.1")
        wire = Wire(allow)
        built_in = sandbox(runtime.database)
        credentials = Credentials(runtime.settings.processor_credentials, folder)
        registry = Registry(
            runtime.database,
            built_in,
            bootstrap.adapters(),
            credentials,
            wire,
            allow,
            runtime.clock,
        )
        _BUILT[id(runtime)] = _Built(registry, wire)
        yield Ground(runtime, database_url, f"t-{uuid.uuid4().hex[:12]}", folder)
        await wire.close()


@pytest.fixture
def caller(ground: Ground) -> Iterator[None]:
    """Act for the tenant."""
    with acting(CallContext(ground.tenant_id, "test", frozenset({"*"}), "r", "c")):
        yield


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[LocalStripe]:
    """The hostile peer, of all tests of a file."""
    async with localstripe() as running_peer:
        yield running_peer


def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
async def stripe(ground: Ground, peer: LocalStripe, caller: None) -> AsyncIterator[Subject]:
    """Stripe's adapter, and a peer behind a cutter."""
    config = ProcessorConfig("stripe", "stripe", settings=tuple(sorted(STRIPE_SETTINGS.items())))
    async with cutting(peer.port) as (cutter, port):
        yield Subject(
            ground.build(config, f"http://127.0.0.1:{port}"),
            ground.runtime.clock.now,
            "pm_card_visa",
            "pm_card_chargeCustomerFail",
            peer.net_minor,
            cutter,
            ground.build(config, f"http://127.0.0.1:{closed_port()}"),
            moving=b"/confirm ",
            captures_what_was_let_go=True,
        )


@pytest.fixture(scope="module")
async def own_gateway() -> AsyncIterator[House]:
    """A gateway of somebody's own, of all tests of a file."""
    async with house() as running_house:
        yield running_house


@pytest.fixture
async def housed(ground: Ground, own_gateway: House, caller: None) -> AsyncIterator[Subject]:
    """The adapter for such gateways, behind a cutter."""
    config = ProcessorConfig("house", "http-json", settings=tuple(sorted(SETTINGS.items())))
    async with cutting(own_gateway.port) as (cutter, port):
        yield Subject(
            ground.build(config, f"http://127.0.0.1:{port}", HOUSE_KEY),
            ground.runtime.clock.now,
            "good",
            "poor",
            own_gateway.net_minor,
            cutter,
            ground.build(config, f"http://127.0.0.1:{closed_port()}", HOUSE_KEY),
            decline_codes=("declined", "insufficient_funds"),
            moving=b"POST /sales ",
        )


@pytest.fixture(params=["stripe", "housed"])
def lossy(request: pytest.FixtureRequest) -> Subject:
    """Each processor behind a network in turn."""
    found: Subject = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def sandboxed(ground: Ground, caller: None) -> Subject:
    """A sandbox processor, whose books are in the database."""
    registry, _ = ground.registry()

    def net_minor() -> Counter[str]:
        net: Counter[str] = Counter()
        with psycopg.connect(ground.urls.owner_admin) as connection:
            rows = connection.execute(
                "SELECT idempotency_key, charge_key, merchant_ref, operation, amount_minor"
                " FROM orchestration.sandbox_order WHERE tenant_id = %s AND done",
                (ground.tenant_id,),
            ).fetchall()
        sign = {"CHARGE": 1, "CAPTURE": 1, "REFUND": -1}
        orders = {key: (parent, ref) for key, parent, ref, _, _ in rows}
        for key, _, _, operation, amount_minor in rows:
            first = key
            while orders[first][0]:
                first = orders[first][0]
            net[orders[first][1]] += sign.get(operation, 0) * amount_minor
        return net

    return Subject(
        registry.built_in["sandbox-card"],
        ground.runtime.clock.now,
        "tok_approve",
        "tok_decline",
        net_minor,
        unreachable=registry.built_in["sandbox-card-down"],
    )


@pytest.fixture(params=["sandboxed", "stripe", "housed"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each processor in turn."""
    found: Subject = request.getfixturevalue(request.param)
    return found


@dataclass
class Shop:
    """A tenant whose merchant is paid through a peer."""

    bench: Bench
    peer: LocalStripe
    cutter: Cutter
    base_url: str
    folder: Path

    async def configure(self, **more: Any) -> int:
        """Store a configuration whose two methods go to the peer."""
        keep_credential(self.folder, self.bench.tenant_id, self.base_url)
        methods = [{"method": each, "processor_id": "stripe"} for each in ("card", "second_card")]
        given: dict[str, Any] = {"processors": [processor(self.base_url)], **more}
        return await self.bench.configure(*methods, **given)


@pytest.fixture(scope="module")
async def served_peer(
    database_url: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """A service and a peer behind a cutter."""
    folder = tmp_path_factory.mktemp("credentials")
    settings: dict[str, Any] = {"processor_allow": "127.0.0.1", "processor_credentials_dir": folder}
    async with (
        localstripe() as peer,
        cutting(peer.port, stall_seconds=2.2) as (cutter, port),
        serving(database_url, [], **settings) as (mesh, runs, booker, clock, apply),
    ):
        bench = Bench(mesh, runs, booker, clock, database_url, "nobody", apply)
        yield Shop(bench, peer, cutter, f"http://127.0.0.1:{port}", folder)


@pytest.fixture
def shop(served_peer: Shop) -> Shop:
    """A fresh tenant."""
    of = served_peer.bench
    tenant_id = f"t-{uuid.uuid4().hex[:12]}"
    bench = Bench(of.mesh, of.runs, of.booker, of.clock, of.urls, tenant_id, of.apply)
    served_peer.cutter.fault = lambda request: Fault.NONE
    return Shop(
        bench, served_peer.peer, served_peer.cutter, served_peer.base_url, served_peer.folder
    )
