"""A whole mesh in one process: Postgres, every service on one port, the REST facade beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from services.local import secrets
from services.local.errors import StartRefused
from services.local.gateway import Gateway, find_or_build
from services.local.postgres.server import EmbeddedPostgres, PostgresError, take_directory
from services.local.tenure import DatabaseOccupied, Tenure
from services.runtime import manifests, migrations
from services.runtime.access import OPERATOR_SCOPE, SCOPE_ALL, MeshTokens, Principal
from services.runtime.config import Settings
from services.runtime.edge.server import PortInUse
from services.runtime.errors import DomainError, Unauthenticated
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.process.node import Node
from services.runtime.secrets import SETTING as SECRETS_SETTING
from services.runtime.telemetry import log

DATABASE = "tollmesh"
KEY_NAME = "tollmesh up"
# Before a REST facade that ended by itself is started again.
RESTART_SECONDS = 1.0
# What keeps a mesh from its start without being a fault of ours. A TimeoutError is an OSError.
_REFUSED = (
    PostgresError,
    roles.DatabaseUnfit,
    PortInUse,
    psycopg.Error,
    DBAPIError,
    DomainError,
    grpc.aio.AioRpcError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to bring a mesh up.

    Attributes:
        data_dir: where secrets and the embedded Postgres live.
        grpc_port: port of all services; 0 takes a free one.
        rest_port: port of the REST facade; 0 takes a free one; None leaves it out.
        database_url: an existing Postgres, as a login that owns the database and may create roles; empty for our own.
        tenant: tenant of the operator's key.
        nats: settings of the transport between sites that stand above those of the environment.
        webhook_allow: where webhooks may go although it is not public; empty leaves it to the environment.
        take_over: make an existing Postgres ours although its roles have other passwords.
    """

    data_dir: Path
    grpc_port: int
    rest_port: int | None
    database_url: str = ""
    tenant: str = "default"
    nats: Mapping[str, Any] = field(default_factory=dict)
    webhook_allow: str = ""
    take_over: bool = False


class LocalMesh:
    """Brings a mesh up in this process and takes it down again.

    Args:
        options: how.
        left_key: returns the operator's key of a run that was killed, empty when there is none; asked once the data
            directory is ours.
    """

    def __init__(self, options: Options, left_key: Callable[[], str] = str) -> None:
        self._options = options
        self._left_key = left_key
        self._postgres: EmbeddedPostgres | None = None
        self._directory: int | None = None
        self._tenure: Tenure | None = None
        self._node: Node | None = None
        self._gateway: Gateway | None = None
        self._key_id = ""
        self.api_key = ""
        self.database_url = ""
        self._secret = ""
        self.grpc_address = ""
        self.rest_url = ""
        self.rest_missing = False

    async def start(self) -> None:
        """Start everything in order; returns once calls are answered.

        Raises:
            LocalError: StartRefused, GatewayUnfit, GatewayNotStarted or a damaged file; what was started is stopped.
        """
        try:
            urls = await self._prepare_database()
            self.database_url = urls.service
            await self._start_node(urls)
            await self._start_gateway()
            await self._make_key()
        except _REFUSED as error:
            # What its end made fail does not tell of it.
            ended = "" if self._postgres is None else self._postgres.why_ended()
            await self.stop()
            said = (
                f"Postgres stopped while the mesh was starting: {ended}"
                if ended
                else _said(error, self._options.data_dir)
            )
            raise StartRefused(said) from error
        except BaseException:
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Keep the parts alive; runs until cancelled.

        Raises:
            GatewayUnfit, GatewayNotStarted: the REST facade ended and does not start again.
        """
        await asyncio.gather(self._keep_postgres(), self._keep_tenure(), self._keep_gateway())
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take everything down, in reverse order; what fails to stop does not keep the rest up."""
        gateway, self._gateway = self._gateway, None
        node, self._node = self._node, None
        postgres, self._postgres = self._postgres, None
        directory, self._directory = self._directory, None
        tenure, self._tenure = self._tenure, None
        try:
            if gateway is not None:
                # In a thread: the calls that it waits for are answered by this one.
                await asyncio.to_thread(gateway.stop)
            if node is not None:
                await self._revoke_key()
        finally:
            try:
                if node is not None:
                    await node.stop()
            finally:
                if tenure is not None:
                    await tenure.end()
                if postgres is not None:
                    await asyncio.to_thread(postgres.stop)
                if directory is not None:
                    os.close(directory)

    async def _keep_postgres(self) -> None:
        if self._postgres is not None:
            await self._postgres.supervise()

    async def _keep_tenure(self) -> None:
        if self._tenure is not None:
            await self._tenure.keep()

    async def _keep_gateway(self) -> None:
        while (gateway := self._gateway) is not None:
            await gateway.ended()
            await asyncio.sleep(RESTART_SECONDS)
            if self._gateway is gateway:  # it was not stopped meanwhile
                log.warning("gateway_ended", address=gateway.address)
                self._gateway = await asyncio.to_thread(gateway.again)

    async def _prepare_database(self) -> DatabaseUrls:
        options = self._options
        admin_url = options.database_url
        files = [secrets.MESH_SECRET_FILE]
        if not os.environ.get(SECRETS_SETTING):
            files.append(secrets.SECRETS_KEYS_FILE)
        if admin_url:
            folder = options.data_dir.absolute()
            self._directory = await asyncio.to_thread(take_directory, folder)
            if not options.take_over:
                await asyncio.to_thread(secrets.refuse_a_part, folder, files)
        else:
            self._postgres = EmbeddedPostgres(options.data_dir)
            await self._postgres.start_async()
            admin_url = await asyncio.to_thread(self._postgres.create_database, DATABASE)
        passwords_file = options.data_dir / secrets.PASSWORDS_FILE
        kept = [*(options.data_dir / name for name in files), passwords_file]
        new = [path for path in kept if not path.exists()]
        # Made before the passwords: whoever has those without them has a part of another directory.
        self._secret = await asyncio.to_thread(secrets.mesh_secret, options.data_dir)
        keys: str | None = None
        if secrets.SECRETS_KEYS_FILE in files:
            keys = await asyncio.to_thread(secrets.secrets_keys, options.data_dir)
        together = (options.data_dir, self._secret, keys)
        try:
            if self._postgres is None and not options.take_over:
                await asyncio.to_thread(secrets.refuse_others, *together)
            if options.take_over:
                await self._take_tenure(admin_url)
            urls = await roles.prepare(
                admin_url,
                passwords_file=passwords_file,
                # The embedded one lies in the directory of the passwords, which is ours alone.
                take_over=options.take_over or self._postgres is not None,
            )
            await self._take_tenure(admin_url)
        except (roles.DatabaseTaken, DatabaseOccupied):
            # Left here, they would make a whole of what is copied in from the directory that has the database.
            for path in new:
                path.unlink(missing_ok=True)
            raise
        await asyncio.to_thread(secrets.remember_together, *together)
        await asyncio.to_thread(migrations.upgrade, admin_url, manifests.environments())
        return urls

    async def _take_tenure(self, admin_url: str) -> None:
        # The lock of the data directory is enough for the server that lies in it.
        if self._postgres is None and self._tenure is None:
            self._tenure = await Tenure.take(admin_url)

    async def _start_node(self, urls: DatabaseUrls) -> None:
        self._tokens = MeshTokens(self._secret)
        settings = Settings(
            database_url=urls.service,
            relay_url=urls.relay,
            listen=f"127.0.0.1:{self._options.grpc_port}",
            mesh_secret=SecretStr(self._secret),
            peers="",
            **self._options.nats,
            **await asyncio.to_thread(self._kept_and_listed),
        )
        self._node = Node(settings, manifests.found())
        port = await self._node.start()
        if self._postgres is not None:
            postgres = self._postgres
            self._node.telemetry.observe(
                "tollmesh.postgres.restarts", lambda: [(float(postgres.restarts), {})]
            )
        self.grpc_address = f"127.0.0.1:{port}"

    def _kept_and_listed(self) -> dict[str, Any]:
        """Settings that stand above, or in place of, those of the environment."""
        given: dict[str, Any] = {}
        if not os.environ.get(SECRETS_SETTING):
            given["secrets_keys"] = SecretStr(secrets.secrets_keys(self._options.data_dir))
        if self._postgres is not None:
            given["storage_dir"] = self._options.data_dir.absolute()
        if self._options.webhook_allow:
            given["webhook_allow"] = self._options.webhook_allow
        return given

    async def _start_gateway(self) -> None:
        if self._options.rest_port is None:
            return
        program = await find_or_build()
        if program is None:
            self.rest_missing = True
            return
        listen = f"127.0.0.1:{self._options.rest_port}"
        # Shielded: one that is started meanwhile has to be known, or nobody would stop it.
        starting = asyncio.create_task(
            asyncio.to_thread(Gateway, program, listen, self.grpc_address)
        )
        try:
            self._gateway = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if starting.exception() is None:
                self._gateway = starting.result()
            raise
        self.rest_url = f"http://{self._gateway.address}"

    async def _make_key(self) -> None:
        """Make the operator's key of this run, by the same RPC as any other key."""
        await self._revoke_left_key()
        async with grpc.aio.insecure_channel(self.grpc_address) as channel:
            stub = access_service_pb2_grpc.AccessServiceStub(channel)
            response = await stub.CreateApiKey(
                access_service_pb2.CreateApiKeyRequest(
                    request_id=str(uuid4()), name=KEY_NAME, scopes=[SCOPE_ALL, OPERATOR_SCOPE]
                ),
                metadata=self._operator(self._options.tenant),
            )
        self._key_id = response.api_key.key_id
        self.api_key = response.secret

    async def _revoke_left_key(self) -> None:
        """End the key of a run that was killed: nobody did, and it may do everything."""
        assert self._node is not None
        left = await asyncio.to_thread(self._left_key)
        if left:
            with contextlib.suppress(Unauthenticated):
                holder = await self._node.keys.resolve(left)
                await self._revoke(holder.tenant_id, holder.principal_id)
                self._node.keys.forget()

    async def _revoke_key(self) -> None:
        if self._key_id:
            await self._revoke(self._options.tenant, self._key_id)

    async def _revoke(self, tenant_id: str, key_id: str) -> None:
        async with grpc.aio.insecure_channel(self.grpc_address) as channel:
            stub = access_service_pb2_grpc.AccessServiceStub(channel)
            # It ends because its run does, not because it leaked: what was made with it stays.
            request = access_service_pb2.RevokeApiKeyRequest(
                request_id=str(uuid4()), key_id=key_id, keep_made_keys=True
            )
            try:
                await stub.RevokeApiKey(request, metadata=self._operator(tenant_id), timeout=2)
            except grpc.aio.AioRpcError as error:
                # The database is away: it works until somebody revokes it.
                log.warning("key_not_revoked", key_id=key_id, code=error.code().name)

    def _operator(self, tenant_id: str) -> tuple[tuple[str, str], ...]:
        principal = Principal(tenant_id, "operator", frozenset({SCOPE_ALL, OPERATOR_SCOPE}))
        token = self._tokens.issue(principal)
        return (("authorization", f"Mesh {token}"),)


def load_services() -> None:
    """Load the code of every service, before an event loop has anything to wait for."""
    for service in manifests.found():
        service.load()


def _said(error: Exception, data_dir: Path) -> str:
    """What an error of the start says; the first line of what a driver says holds it all."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {' '.join(str(error).split())[:500]}"
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    if isinstance(error, DBAPIError):
        return _said(error.orig, data_dir) if isinstance(error.orig, psycopg.Error) else str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return f"the mesh started but does not answer: {error.details()}"
    if isinstance(error, OSError):
        return _said_of_machine(error, data_dir)
    return str(error).strip()


def _said_of_machine(error: OSError, data_dir: Path) -> str:
    """Name the data directory only where it is at fault: sockets, programs and certificates fail in the same way."""
    if isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(
        data_dir.absolute()
    ):
        return f"cannot use the data directory: {error}"
    return f"the operating system refused: {error}"
