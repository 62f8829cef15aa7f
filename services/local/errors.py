"""Errors that keep a local mesh from starting or running. Whoever shows them adds what to do next."""

from __future__ import annotations

from pathlib import Path


class LocalError(Exception):
    """A local mesh doesn't start, or a part of it has failed; the message says why."""


class StartRefused(LocalError):
    """A port, the data directory, the database or the machine refuses; `__cause__` is the original error."""


class GatewayNotStarted(LocalError):
    """The REST facade didn't start listening; its own error is on standard error."""

    def __init__(self, listen: str) -> None:
        super().__init__(f"the REST gateway did not start on {listen}: see its error above")


class GatewayUnfit(LocalError):
    """The program of the REST facade cannot be run: it is missing, not executable, or for another machine."""

    def __init__(self, program: Path, why: str, setting: str = "") -> None:
        named = f", which {setting} names" if setting else ""
        super().__init__(f"cannot run the REST gateway {program}{named}: {why}")


class MeshSecretDamaged(LocalError):
    """The file of the mesh's secret is damaged. Nothing is encrypted with it, so a new one can be made."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")


class SecretsKeysDamaged(LocalError):
    """The file of the keys that encrypt secrets is damaged. Without the keys those secrets are lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")
