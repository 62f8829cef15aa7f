"""A whole mesh in one process: Postgres, every service on one port, the REST facade beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from services.access import bootstrap as access
from services.billing import bootstrap as billing
from services.cli.client import left_key
from services.cli.errors import EXIT_UNAVAILABLE, CliError
from services.cli.gateway import Gateway, find_or_build
from services.events import bootstrap as events
from services.ledger import bootstrap as ledger
from services.metering import bootstrap as metering
from services.monitoring import bootstrap as monitoring
from services.orchestration import bootstrap as orchestration
from services.pricing import bootstrap as pricing
from services.runtime import roles
from services.runtime.access import OPERATOR_SCOPE, SCOPE_ALL, MeshTokens, Principal
from services.runtime.config import Settings
from services.runtime.errors import DomainError, Unauthenticated
from services.runtime.node import Node
from services.runtime.postgres import EmbeddedPostgres, PostgresError, take_directory
from services.runtime.roles import DatabaseUrls
from services.runtime.secrets import SETTING as SECRETS_SETTING
from services.runtime.secrets import new_key, parse_keys
from services.runtime.server import PortInUse
from services.runtime.telemetry import log

BUILDS = (
    access.build,
    metering.build,
    pricing.build,
    ledger.build,
    billing.build,
    orchestration.build,
    monitoring.build,
    events.build,
)
# The access service keeps its state in the runtime's schema, which is always migrated.
MIGRATIONS = tuple(
    f"services.{name}.migrations"
    for name in (
        "metering",
        "pricing",
        "ledger",
        "billing",
        "orchestration",
        "monitoring",
        "events",
    )
)
DATABASE = "tollmesh"
KEY_NAME = "tollmesh up"
# Before a REST facade that ended by itself is started again.
RESTART_SECONDS = 1.0
SECRET_CHARS_MIN = 32
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
_HINTS: Mapping[type[Exception], Sequence[str]] = {
    PortInUse: ("choose another with --grpc-port",),
    roles.DatabaseTaken: (
        "start with the data directory that it was first started with (--data-dir), or copy passwords.json, "
        "mesh.secret and secrets.keys from there into this one",
        "if that directory is lost, and no mesh runs with it: --take-over gives the roles new passwords, and locks out "
        "whoever still has the old ones; secrets of webhooks need the lost secrets.keys and have to be made anew",
        "several meshes on one server: a database each",
    ),
}


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
    """Brings a mesh up in this process and takes it down again."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._postgres: EmbeddedPostgres | None = None
        self._directory: int | None = None
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
            CliError: a port, the data directory or the database cannot be had; what was started is stopped.
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
            said = f"Postgres ended while the mesh started: {ended}" if ended else _said(error)
            hints = _HINTS.get(type(error), ())
            raise CliError(said, *hints, exit_code=EXIT_UNAVAILABLE) from error
        except BaseException:
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Keep the parts alive; runs until cancelled.

        Raises:
            CliError: the REST facade ended and does not start again.
        """
        await asyncio.gather(self._keep_postgres(), self._keep_gateway())
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take everything down, in reverse order; what fails to stop does not keep the rest up."""
        gateway, self._gateway = self._gateway, None
        node, self._node = self._node, None
        postgres, self._postgres = self._postgres, None
        directory, self._directory = self._directory, None
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
                if postgres is not None:
                    await asyncio.to_thread(postgres.stop)
                if directory is not None:
                    os.close(directory)

    async def _keep_postgres(self) -> None:
        if self._postgres is not None:
            await self._postgres.supervise()

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
        if admin_url:
            folder = options.data_dir.absolute()
            self._directory = await asyncio.to_thread(take_directory, folder)
            if not options.take_over:
                await asyncio.to_thread(_refuse_a_part, folder)
        else:
            self._postgres = EmbeddedPostgres(options.data_dir)
            await self._postgres.start_async()
            admin_url = await asyncio.to_thread(self._postgres.create_database, DATABASE)
        secret_file, passwords_file = (
            options.data_dir / name for name in ("mesh.secret", "passwords.json")
        )
        new = [path for path in (secret_file, passwords_file) if not path.exists()]
        # Made before the passwords: whoever has those without it has a part of another directory.
        self._secret = await asyncio.to_thread(_secret, secret_file)
        try:
            urls = await roles.prepare(
                admin_url,
                passwords_file=passwords_file,
                # The embedded one lies in the directory of the passwords, which is ours alone.
                take_over=options.take_over or self._postgres is not None,
            )
        except roles.DatabaseTaken:
            # Left here, they would make a whole of what is copied in from the directory that has the database.
            for path in new:
                path.unlink(missing_ok=True)
            raise
        await roles.migrate(admin_url, MIGRATIONS)
        return urls

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
        self._node = Node(settings, BUILDS)
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
            given["secrets_keys"] = SecretStr(_secrets_keys(self._options.data_dir))
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
        left = await asyncio.to_thread(left_key, self._options.data_dir)
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
        token = self._tokens.issue(principal, scope_all=False)
        return (("authorization", f"Mesh {token}"),)


def _said(error: Exception) -> str:
    """What an error of the start says; the first line of what a driver says holds it all."""
    if isinstance(error, psycopg.Error):
        return f"the database refused the start: {' '.join(str(error).split())[:500]}"
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    if isinstance(error, DBAPIError):
        return _said(error.orig) if isinstance(error.orig, psycopg.Error) else str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return f"the mesh does not answer itself: {error.details()}"
    if isinstance(error, OSError):
        return f"the data directory cannot be used: {error}"
    return str(error).strip()


def _refuse_a_part(data_dir: Path) -> None:
    """Refuse a directory that has the passwords of a mesh and not its secret. Raises roles.DatabaseTaken."""
    if (data_dir / "passwords.json").exists() and not (data_dir / "mesh.secret").exists():
        raise roles.DatabaseTaken(
            f"{data_dir} holds the passwords of a mesh and not its secret (mesh.secret): two meshes that do not know "
            "each other would share one database"
        )


def _secret(path: Path) -> str:
    """Read the mesh's secret; make it when it is missing.

    Raises:
        CliError: the file holds no secret.
    """
    secret = _kept(path, secrets.token_urlsafe(48))
    if len(secret) < SECRET_CHARS_MIN:
        raise CliError(f"{path} is damaged", "remove it: the next start makes a new one")
    return secret


def _secrets_keys(data_dir: Path) -> str:
    """Read the keys that the database's secrets are kept under; make one when there is none.

    Raises:
        CliError: the file holds no keys. What was kept under them is lost without them.
    """
    path = data_dir / "secrets.keys"
    keys = _kept(path, new_key())
    try:
        found = parse_keys(keys)
    except ValueError:
        found = ()
    if not found:
        raise CliError(
            f"{path} is damaged",
            f"bring it back from a backup, or set {SECRETS_SETTING}: the secrets of webhooks are kept under it",
        )
    return keys


def _kept(path: Path, new: str) -> str:
    """Read a file that only its owner can read; make it, whole or not at all, when it is missing."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        return ""  # whoever asked says that it is damaged
