"""A site in a process of its own, to be killed: `python -m tests.support.jetstream.worker URLS NATS SITE [FROM]`."""

from __future__ import annotations

import argparse
import asyncio
import json

from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import configure_logs
from tests.support.events.lab import Lab
from tests.support.jetstream.sites import options, running

# Its lanes and shares are free again soon after its death.
LEASE_MS = 1500


async def serve(urls: DatabaseUrls, url: str, site: str, sources: list[str]) -> None:
    """Run the site until the process is killed."""
    async with running(Lab(urls), options(url, site, *sources), lease_ms=LEASE_MS):
        await asyncio.Event().wait()


def main() -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("urls")
    parser.add_argument("nats")
    parser.add_argument("site")
    parser.add_argument("sources", nargs="*")
    arguments = parser.parse_args()
    configure_logs("warning")
    urls = DatabaseUrls(**json.loads(arguments.urls))
    asyncio.run(serve(urls, arguments.nats, arguments.site, arguments.sources))


if __name__ == "__main__":
    main()
