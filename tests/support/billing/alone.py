"""The verifier as a stranger runs it: an isolated interpreter with nothing on its path but a copy of the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "tollmesh_verify"
_RUN = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
    " runpy.run_module('tollmesh_verify', run_name='__main__', alter_sys=True)"
)


def copied(folder: Path) -> Path:
    """Copy the package into a folder of its own; returns that."""
    place = folder / "verifier"
    shutil.copytree(PACKAGE, place / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def verify_alone(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it there; without the site's packages, the environment and the current folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, str(place), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        timeout=120,
    )
