"""A whole mesh with the real facade before it, and a tenant that has something of everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Session
from services.runtime import manifests
from services.runtime.edge import interceptors, paging
from services.runtime.secrets import new_key
from tests.integration.tenancy.estate import Estate
from tests.integration.tenancy.test_rpcs import OWN, WRITES
from tests.support.billing.spooled import leave_spooled
from tests.support.http.rest import facade
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls
from tests.support.timers.journeys import start_seasoning


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        mesh: runs in this event loop.
        url: of the facade in front of it.
        key: of the tenant that everything belongs to.
        good: one good request of each RPC, by the RPC's name without `payments.`.
        faults: what the pipeline called a fault of ours.
    """

    mesh: Mesh
    url: str
    key: str
    good: dict[str, Message]
    faults: list[BaseException]


class _Noted:
    """The pipeline's log, of which only the faults are kept: a line a call would bury them."""

    def __init__(self, faults: list[BaseException]) -> None:
        self._faults = faults

    def bind(self) -> _Noted:
        return self

    def error(self, event: str, **values: Any) -> None:
        assert event == "rpc_fault"
        self._faults.append(values["exc_info"])

    def info(self, event: str, **_: Any) -> None:
        assert event == "rpc"


def seal(body: bytes, scope: str) -> bytes:
    """Seal a page token without its scope, so that a fuzz can write any position into one."""
    return b"8 bytes!"


_read_place = paging._place


def place(body: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read a place that a fuzz asks for with a seed: each part is of its kind, at the ends of what the kind holds."""
    try:
        seed = json.loads(body)["any"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return _read_place(body, kinds)
    dice = Random(seed)
    made = {name: dice.choice(_ENDS[kind]) for name, kind in kinds.items()}
    return _read_place(json.dumps(made).encode(), kinds)


_WHOLE = (-(2**63), -(2**31) - 1, -(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
_ENDS: dict[type, tuple[Any, ...]] = {
    str: ("", "a", "zz", "é" * 90, "x" * 9000, "%", "'"),
    int: _WHOLE,
    paging.Int32: _WHOLE,
    UUID: (str(UUID(int=0)), str(UUID(int=2**128 - 1)), str(UUID(int=7))),
    datetime: ("0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
}


@pytest_asyncio.fixture(scope="module")
async def target(database: DatabaseUrls) -> AsyncIterator[Target]:
    """The mesh and its tenant."""
    with pytest.MonkeyPatch.context() as patch:
        faults: list[BaseException] = []
        patch.setattr(interceptors, "log", _Noted(faults))
        patch.setattr(paging, "_seal", seal)
        patch.setattr(paging, "_place", place)
        builds = manifests.found()
        async with running(database, builds, secrets_keys=new_key(), webhook_allow="") as mesh:
            operator = mesh.channel("oddwood-tenant", {"*", "mesh:admin"})
            stub = access_service_pb2_grpc.AccessServiceStub(operator)
            made = await stub.CreateApiKey(
                access_service_pb2.CreateApiKeyRequest(
                    request_id=str(uuid4()), name="fuzz", scopes=["*"]
                )
            )
            estate = Estate("oddwood", 7, Session(mesh.address, made.secret))
            good = await asyncio.to_thread(_made, estate, database)
            with facade(mesh.address) as url:
                yield Target(mesh, url, made.secret, good, faults)


def _made(estate: Estate, database: DatabaseUrls) -> dict[str, Message]:
    estate.build()
    start_seasoning(database.service, estate.tenant, estate.name("journey"))
    estate.ids["spooled"] = leave_spooled(database.service, estate.tenant, estate.name("held"))
    return {name: build(estate) for name, build in {**OWN, **WRITES}.items()}
