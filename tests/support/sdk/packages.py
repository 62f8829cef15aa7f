"""Builds wheels of this tree and installs them where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
UV = Path(sysconfig.get_path("scripts"), "uv")


def run(
    *command: str | Path, cwd: Path = REPOSITORY, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command; returns what it wrote to standard output.

    Raises:
        AssertionError: it failed; the message is what it said.
    """
    done = subprocess.run(
        command, cwd=cwd, env=clean(environment or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def clean(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what leads to this tree, or to a mesh."""
    # Without bytecode each start would compile all there is.
    ours = (
        *("TOLLMESH_", "VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT"),
        "PYTHONDONTWRITEBYTECODE",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **more}


def build_wheel(project: Path, folder: Path, **environment: str) -> Path:
    """Build the wheel of a project of this tree, as `make wheel` does."""
    run(
        *(UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--wheel"),
        *("--out-dir", folder, project),
        environment=environment,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with nothing in it but a wheel and what that needs, in the versions of uv.lock.

    Args:
        folder: made for it.
        wheel: what to install.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        run(UV, "venv", "--quiet", "--python", sys.executable, folder)
        locked = run(
            *(
                UV,
                "export",
                "--quiet",
                "--frozen",
                "--no-hashes",
                "--no-emit-project",
                "--all-groups",
            ),
            *("--no-annotate", "--no-header"),
        )
        constraints = folder / "constraints.txt"
        constraints.write_text(locked)
        _uv(
            *("pip", "install", "--quiet", "--python", str(self.program("python"))),
            *("--constraints", str(constraints), str(wheel)),
        )

    def program(self, name: str) -> Path:
        """A program of the environment."""
        return self.folder / "bin" / name

    def packages(self) -> set[str]:
        """Names of what is installed."""
        listed = run(UV, "pip", "freeze", "--python", self.program("python"))
        return {line.split("==")[0].split(" @ ")[0] for line in listed.splitlines()}


def _uv(command: str, *arguments: str, **environment: str) -> None:
    """Run uv without the network, and with it for what was never installed on this machine."""
    try:
        run(UV, command, *arguments, environment={**environment, "UV_OFFLINE": "1"})
    except AssertionError:
        run(UV, command, *arguments, environment=environment)
