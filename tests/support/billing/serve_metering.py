"""`python -m tests.support.billing.serve_metering SKU…`: metering and a catalogue of these SKUs, as a process.

Settings come from `TOLLMESH_…`; prints its port, then serves until SIGTERM.
"""

from __future__ import annotations

import sys

import uvloop

from services.metering import manifest
from services.runtime import telemetry
from services.runtime.config import Settings
from services.runtime.manifests import Manifest
from services.runtime.process.node import Node, until_signalled
from tests.support.billing.metering import catalogue_of


async def serve(skus: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    telemetry.configure_logs(settings.log_level)
    node = Node(
        settings, [manifest.SERVICE, Manifest("pricing", builder=catalogue_of(*skus).build)]
    )
    sys.stdout.write(f"{await node.start()}\n")
    sys.stdout.flush()
    await until_signalled()
    await node.stop()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
