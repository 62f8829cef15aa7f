"""A service that a folder was added for is served, migrated, monitored and crash-tested: nothing else is edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import descriptor_pool, message_factory
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc

import services
from services.local.mesh import LocalMesh, Options
from services.runtime import manifests
from tests.chaos import crash_points

FOLDER = {
    "__init__.py": '"""Keeps notes."""\n',
    "manifest.py": """
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="notes",
    contracts=(
        Contract("notes/short", "Notes are short", "LOW", ContractKind.POLICY, "A note is long."),
    ),
    migrations="services.notes.migrations",
)
""",
    "bootstrap.py": """
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from payments.options.v1 import options_pb2

from services.runtime.service import Runtime, Service, Servicer

FILE = descriptor_pb2.FileDescriptorProto(
    name="payments/notes/v1/notes.proto",
    package="payments.notes.v1",
    syntax="proto3",
    dependency=["payments/options/v1/options.proto"],
)
FILE.message_type.add(name="KeepRequest").field.add(name="text", number=1, label=1, type=9)
FILE.message_type.add(name="KeepResponse")
keep = FILE.service.add(name="NoteService").method.add(
    name="Keep",
    input_type=".payments.notes.v1.KeepRequest",
    output_type=".payments.notes.v1.KeepResponse",
)
keep.options.Extensions[options_pb2.access].scope = "notes:write"
keep.options.Extensions[options_pb2.access].mutates = True
POOL = descriptor_pool.Default()
POOL.Add(FILE)
NAME = "payments.notes.v1.NoteService"
Request, Response = (
    message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"payments.notes.v1.{name}"))
    for name in ("KeepRequest", "KeepResponse")
)


class Notes:
    def __init__(self, database):
        self._database = database

    async def keep(self, request, context):
        async with self._database.unit_of_work("notes.keep") as work:
            await work.execute(
                "INSERT INTO notes.note VALUES (%(tenant_id)s, %(text)s)",
                {"tenant_id": work.tenant_id, "text": request.text},
            )
            work.violation("notes/short", "", "it is long")
        return Response()


def add_to_server(notes, server):
    keep = grpc.unary_unary_rpc_method_handler(
        notes.keep, Request.FromString, Response.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler(NAME, {"Keep": keep})
    server.add_generic_rpc_handlers((handler,))


def build(runtime: Runtime) -> Service:
    return Service([Servicer(add_to_server, Notes(runtime.database), NAME)])
""",
    "migrations/__init__.py": "",
    "migrations/env.py": """
from services.runtime.migrations import run_env

run_env("notes")
""",
    "migrations/versions/0001_notes.py": """
from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE notes.note (tenant_id text, text text, PRIMARY KEY (tenant_id, text))")
    schema.protect(op, "notes", "note", privileges=schema.APPEND_ONLY)


def downgrade():
    op.execute("DROP TABLE notes.note")
""",
}


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder `notes`, found beside the services of the release."""
    folder = tmp_path / "services" / "notes"
    for name, text in FOLDER.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(services, "__path__", [*services.__path__, str(folder.parent)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("services.notes")]:
        del sys.modules[name]
    monkeypatch.delattr(services, "notes", raising=False)


async def test_a_folder_is_all_that_a_new_service_takes(notes: Path, tmp_path: Path) -> None:
    mesh = LocalMesh(Options(tmp_path / "data", grpc_port=0, rest_port=None))
    await mesh.start()
    try:
        await _keep(mesh, "x" * 100)
        assert mesh._node is not None
        await mesh._node.drain_events()
        await _is_monitored(mesh)
        with psycopg.connect(mesh.database_url) as service:
            service.execute("SELECT set_config('mesh.tenant', 'default', true)")
            assert service.execute("SELECT text FROM notes.note").fetchall() == [("x" * 100,)]
    finally:
        await mesh.stop()


def test_its_crash_points_are_among_those_that_the_chaos_suite_kills_at(notes: Path) -> None:
    points = {"notes.keep.before_commit", "notes.keep.after_commit"}
    assert points <= crash_points.by_scenario(services.__path__)
    assert not points & crash_points.ALL


def test_its_manifest_has_to_name_its_folder(notes: Path) -> None:
    manifest = notes / "manifest.py"
    manifest.write_text(manifest.read_text().replace('name="notes"', 'name="other"'))
    with pytest.raises(ValueError, match="names other"):
        manifests.found()


def test_a_contract_of_another_service_cannot_be_declared(notes: Path) -> None:
    manifest = notes / "manifest.py"
    manifest.write_text(manifest.read_text().replace("notes/short", "router/timeout"))
    with pytest.raises(ValueError, match="declared twice"):
        manifests.declared([])


async def _keep(mesh: LocalMesh, text: str) -> None:
    described = descriptor_pool.Default().FindMessageTypeByName("payments.notes.v1.KeepRequest")
    request: Any = message_factory.GetMessageClass(described)(text=text)
    async with _channel(mesh) as channel:
        await channel.unary_unary(
            "/payments.notes.v1.NoteService/Keep",
            request_serializer=lambda message: message.SerializeToString(),
        )(request, metadata=_key(mesh))


async def _is_monitored(mesh: LocalMesh) -> None:
    async with _channel(mesh) as channel:
        stub = contracts_service_pb2_grpc.ContractMonitorServiceStub(channel)
        listed = await stub.ListContracts(
            contracts_service_pb2.ListContractsRequest(page_size=1000), metadata=_key(mesh)
        )
        (declared,) = [item for item in listed.contracts if item.contract_id == "notes/short"]
        assert (
            declared.built_in and declared.owner == "notes" and declared.title == "Notes are short"
        )
        told = await stub.ListViolations(
            contracts_service_pb2.ListViolationsRequest(contract_id="notes/short"),
            metadata=_key(mesh),
        )
        (violation,) = told.violations
        assert violation.contract_registered and violation.severity == "LOW"


def _channel(mesh: LocalMesh) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(mesh.grpc_address)


def _key(mesh: LocalMesh) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {mesh.api_key}"),)
