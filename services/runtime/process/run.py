"""`python -m services.<name>`: one service alone, on its own port, finding the others by configuration."""

from __future__ import annotations

import gc
import sys

import psycopg
import uvloop

from services.runtime import telemetry
from services.runtime.config import Settings, SettingsUnfit
from services.runtime.edge.server import PortInUse
from services.runtime.errors import DomainError
from services.runtime.manifests import Manifest
from services.runtime.postgres.roles import DatabaseUnfit
from services.runtime.process import loop_watch
from services.runtime.process.node import Node, until_signalled

EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3


def main(*manifests: Manifest) -> None:
    """Serve until SIGTERM. Settings come from `TOLLMESH_…`; the database must be migrated already."""
    try:
        settings = Settings.load()
    except SettingsUnfit as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(EXIT_USAGE) from error
    missing = [
        f"TOLLMESH_{name.upper()}"
        for name in ("database_url", "relay_url")
        if not getattr(settings, name)
    ]
    if len(settings.mesh_secret.get_secret_value()) < 32:
        missing.append("TOLLMESH_MESH_SECRET (32 characters or more)")
    if missing:
        sys.stderr.write(f"error: set {', '.join(missing)}; `tollmesh up` prints the addresses\n")
        raise SystemExit(EXIT_USAGE)
    telemetry.configure_logs(settings.log_level)
    for manifest in manifests:
        manifest.load()
    # As `heap.loading` does: what was loaded so far lives as long as the process.
    gc.freeze()
    try:
        uvloop.run(_serve(Node(settings, manifests), settings))
    except (PortInUse, DomainError, DatabaseUnfit, psycopg.Error, TimeoutError) as error:
        # A TimeoutError says nothing.
        sys.stderr.write(f"error: {str(error) or 'the database did not answer in time'}\n")
        raise SystemExit(EXIT_UNAVAILABLE) from error


async def _serve(node: Node, settings: Settings) -> None:
    with loop_watch.watching(settings.loop_holds_file):
        await _serve_until_signalled(node)


async def _serve_until_signalled(node: Node) -> None:
    try:
        port = await node.start()
        sys.stdout.write(f"serving on port {port}\n")
        sys.stdout.flush()
        await until_signalled()
    finally:
        await node.stop()
