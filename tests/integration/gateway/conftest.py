"""A whole mesh in this event loop, with the real facade in front of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.runtime import manifests
from services.runtime.secrets import new_key
from tests.support.http.rest import Rest, facade
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls, Server
from tests.support.webhooks.lab import ALLOW

MakeCaller = Callable[..., Awaitable[Rest]]


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """Of this folder alone: its mesh lives until the run ends, and its clock would serve what is due by another's."""
    return postgres_server.new_database(f"gateway_{worker_id}")


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mesh looks for credentials of processors."""
    return tmp_path_factory.mktemp("credentials")


@pytest_asyncio.fixture(scope="session")
async def mesh(database: DatabaseUrls, credentials: Path) -> AsyncIterator[Mesh]:
    """Every service on one port."""
    settings: dict[str, Any] = {
        "secrets_keys": new_key(),
        "webhook_allow": ALLOW,
        "processor_credentials_dir": credentials,
    }
    async with running(database, manifests.found(), **settings) as served:
        yield served


@pytest_asyncio.fixture(scope="session")
async def url(mesh: Mesh) -> AsyncIterator[str]:
    """The facade in front of it."""
    with facade(mesh.address) as served:
        yield served


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test writes to."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def caller(mesh: Mesh, url: str, tenant: str) -> MakeCaller:
    """Make callers of the tenant: `await caller()` may do everything, `await caller("ledger:read")` that."""

    async def make(*scopes: str) -> Rest:
        stub = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"*", "mesh:admin"}))
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid.uuid4()), name="test", scopes=scopes or ("*",)
        )
        return Rest(url, (await stub.CreateApiKey(request)).secret)

    return make


@pytest_asyncio.fixture
async def rest(caller: MakeCaller) -> Rest:
    """A caller of the tenant who may do everything."""
    return await caller()
