"""What keeps a mesh on this machine from its start, or from going on. What to do next is said by who shows them."""

from __future__ import annotations

from pathlib import Path


class LocalError(Exception):
    """A mesh on this machine does not start, or a part of it does not go on; the message says why."""


class StartRefused(LocalError):
    """A port, the data directory or the database cannot be had; `__cause__` is what refused."""


class GatewayNotStarted(LocalError):
    """The REST facade does not listen; what it said is on standard error."""

    def __init__(self, listen: str) -> None:
        super().__init__(f"the REST gateway did not start on {listen}; what it said is above")


class MeshSecretDamaged(LocalError):
    """The file of the mesh's secret holds none. Nothing is kept under it: it can be made anew."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")


class SecretsKeysDamaged(LocalError):
    """The file of the keys that secrets are kept under holds none. Without them those secrets are lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged")
