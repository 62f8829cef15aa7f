"""Metering in a process of its own, which a bench measures and a chaos test kills."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.runtime.access import MeshTokens, Principal
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET
from tests.support.processes.forked import ForkedProcess

SKUS = ("llm.input_tokens", "llm.output_tokens", "llm.requests")
"""What its catalogue has."""


@dataclass(frozen=True, slots=True)
class MeteringProcess:
    """A running process.

    Attributes:
        address: of its gRPC server.
        process: to wait for.
        urls: of its database.
    """

    address: str
    process: ForkedProcess
    urls: DatabaseUrls

    def headers(self, tenant: str) -> list[tuple[str, str]]:
        """Return the metadata of a call; its token lasts a minute."""
        principal = Principal(tenant, "bench", frozenset({"*"}))
        return [("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}")]

    def resident_mib(self) -> float:
        """Return the resident memory of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(
    urls: DatabaseUrls, *, crashpoint: str = "", settings: Mapping[str, str] | None = None
) -> Iterator[MeteringProcess]:
    """Serve until the block ends, or until the process dies at its crash point."""
    module = "tests.support.billing.serve_metering"
    with service(urls, module, *SKUS, crashpoint=crashpoint, settings=settings) as (
        address,
        process,
    ):
        yield MeteringProcess(address, process, urls)
