"""NATS servers with JetStream as child processes on loopback: one by itself, or a cluster of three.

They end with this process, however it ends, and keep their files in a folder of the test's.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from services.runtime.processes import tied_to_parent

READY_SECONDS = 20.0
DEATH_SECONDS = 10.0
_READY = "Server is ready"
_ADDRESS_TAKEN = "address already in use"

_CONFIG = """
server_name: {name}
listen: 127.0.0.1:{port}
http: 127.0.0.1:-1
max_payload: {max_payload}
jetstream {{ store_dir: {store}, sync_interval: always, max_mem: 32MB, max_file: 2GB }}
{authorization}{cluster}
"""
_CLUSTER = """
cluster {{ name: test, listen: 127.0.0.1:{port}, routes: [{routes}], no_advertise: true }}
"""


class NatsServer:
    """One server.

    Attributes:
        name: its name in the cluster.
        url: where clients connect; the same after a restart.
    """

    def __init__(self, folder: Path, name: str, port: int, config: str) -> None:
        self.name = name
        self.url = f"nats://127.0.0.1:{port}"
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.conf"
        self._config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again on what it had stored."""
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program is not None, "nats-server is missing: install the group `dev`"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tied_to_parent([program, "-c", str(self._config)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def await_ready(self) -> None:
        """Wait until it takes connections.

        Raises:
            RuntimeError: it ended, or took too long; the message is what it said.
        """
        assert self._process is not None
        give_up_at = time.monotonic() + READY_SECONDS
        while _READY not in (said := self._log.read_text()):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"NATS server {self.name} did not start:\n{said}")
            time.sleep(0.01)

    @property
    def knows_its_leader(self) -> bool:
        """Whether the cluster that it is part of has elected one."""
        meta = self.asked("jsz").get("meta_cluster")
        return isinstance(meta, dict) and bool(meta.get("leader"))

    def change(self, old: str, new: str) -> None:
        """Replace a text of its configuration, and start it again on what it had stored."""
        self._config.write_text(self._config.read_text().replace(old, new))
        self.kill()
        self.start()
        self.await_ready()

    def kill(self) -> None:
        """End it at once, as a machine that loses power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEATH_SECONDS)

    def asked(self, path: str) -> dict[str, object]:
        """Return what its monitoring says under a path, e.g. `jsz`."""
        port = re.search(r"http monitor on 127\.0\.0\.1:(\d+)", self._log.read_text())
        assert port is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/{path}", timeout=5) as response:
            found: dict[str, object] = json.load(response)
        return found


class Nats:
    """A server, or a cluster of them.

    Attributes:
        servers: by name.
    """

    def __init__(self, servers: list[NatsServer]) -> None:
        self.servers = {server.name: server for server in servers}

    @property
    def url(self) -> str:
        """Where clients connect: every server, separated by commas."""
        return ",".join(server.url for server in self.servers.values())


@contextlib.contextmanager
def serving(
    folder: Path, count: int = 1, *, max_payload: str = "4MB", authorization: str = ""
) -> Iterator[Nats]:
    """Run servers until the block ends; three or more are a cluster.

    Raises:
        RuntimeError: they did not start.
    """
    for attempt in range(3):
        servers = _servers(folder / str(attempt), count, max_payload, authorization)
        try:
            for server in servers:
                server.start()
            try:
                for server in servers:
                    server.await_ready()
            except RuntimeError as error:
                # Between the choice of a port and its use somebody else may have taken it.
                if _ADDRESS_TAKEN in str(error) and attempt < 2:
                    continue
                raise
            _await_leader(servers)
            yield Nats(servers)
            return
        finally:
            for server in servers:
                server.kill()


def _await_leader(servers: list[NatsServer]) -> None:
    give_up_at = time.monotonic() + READY_SECONDS
    while len(servers) > 1 and not all(server.knows_its_leader for server in servers):
        if time.monotonic() > give_up_at:
            raise RuntimeError("the NATS servers elected no leader")
        time.sleep(0.05)


def _servers(folder: Path, count: int, max_payload: str, authorization: str) -> list[NatsServer]:
    folder.mkdir(parents=True)
    ports = _free_ports(2 * count)
    clients, routes = ports[:count], ports[count:]
    named = ", ".join(f"nats-route://127.0.0.1:{port}" for port in routes)
    servers = []
    for index, (port, route) in enumerate(zip(clients, routes, strict=True)):
        name = f"n{index}"
        config = _CONFIG.format(
            name=name,
            port=port,
            max_payload=max_payload,
            store=json.dumps(str(folder / name)),
            authorization=authorization,
            cluster=_CLUSTER.format(port=route, routes=named) if count > 1 else "",
        )
        servers.append(NatsServer(folder, name, port, config))
    return servers


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
