"""The event service in a process of its own, to be killed while it sends webhooks.

`python -m tests.support.webhooks.process URLS_JSON KEYS` prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from services.events import bootstrap
from services.events.work import WebhookWorker
from services.runtime.config import Settings
from services.runtime.manifests import Manifest
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.process.node import Node
from services.runtime.service import Runtime, Service
from services.runtime.telemetry import configure_logs
from tests.support.mesh.serving import MESH_SECRET
from tests.support.processes.forked import ForkedProcess
from tests.support.webhooks.lab import ALLOW

ENDS_WITHIN_S = 60


async def serve(urls: DatabaseUrls, keys: str) -> None:
    """Run the service; what is old is removed once at the start."""
    workers: list[WebhookWorker] = []

    def build(runtime: Runtime) -> Service:
        service, worker = bootstrap.assemble(runtime)
        workers.append(worker)
        return service

    settings = Settings(
        database_url=urls.service,
        relay_url=urls.relay,
        mesh_secret=SecretStr(MESH_SECRET),
        listen="127.0.0.1:0",
        secrets_keys=SecretStr(keys),
        webhook_allow=ALLOW,
    )
    node = Node(settings, [Manifest("events", builder=build)])
    sys.stdout.write(f"{await node.start()}\n")
    sys.stdout.flush()
    await workers[0].prune()
    await asyncio.Event().wait()


@asynccontextmanager
async def webhook_process(
    urls: str, keys: str, environment: dict[str, str]
) -> AsyncIterator[tuple[ForkedProcess, int]]:
    """Run the service in a process; gives it with its port, 0 when it died before it served."""
    process = ForkedProcess(
        *("tests.support.webhooks.process", urls, keys), environment=environment, capture=True
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process, int(await asyncio.to_thread(process.stdout.readline) or "0")
        finally:
            process.kill()
            await process.ended(ENDS_WITHIN_S)


if __name__ == "__main__":
    configure_logs("error")
    asyncio.run(serve(DatabaseUrls(**json.loads(sys.argv[1])), sys.argv[2]))
