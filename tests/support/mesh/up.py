"""`tollmesh up` as a process of its own, as programs start it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.http import rest
from tests.support.processes.forked import ForkedProcess

STOPS_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Running:
    """What `tollmesh up --output json` prints once all is ready.

    Attributes:
        grpc: `127.0.0.1:<port>` of all services.
        rest: `http://127.0.0.1:<port>` of the facade.
        api_key: a fresh key of tenant `default`.
        database_url: the services' own login.
        pid: of the process, to signal it.
    """

    grpc: str
    rest: str
    api_key: str
    database_url: str
    pid: int


@contextmanager
def tollmesh_up(data_dir: Path, *arguments: str) -> Iterator[Running]:
    """Run a whole mesh on free ports, with the facade of this tree, until the block ends."""
    with (data_dir.parent / f"{data_dir.name}.log").open("w+") as log:
        process = ForkedProcess(
            *("services.cli", "up", "--data-dir", str(data_dir), "--grpc-port", "0"),
            *("--rest-port", "0", "--output", "json", *arguments),
            environment=os.environ | {"TOLLMESH_GATEWAY": str(rest.binary())},
            capture=True,
            stderr=log,
        )
        assert process.stdout is not None
        try:
            with process.stdout as announced:
                line = announced.readline()
                if not line or "error" in json.loads(line):
                    process.wait(STOPS_WITHIN_S)
                    log.seek(0)
                    raise RuntimeError(f"`tollmesh up` did not start:\n{log.read()[-4000:]}")
                yield Running(**json.loads(line), pid=process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPS_WITHIN_S)
