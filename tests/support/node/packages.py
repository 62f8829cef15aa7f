"""The TypeScript client: its tools installed as locked, built, and packed as its users get it.

Node.js is a wheel of the development environment, so that it is the same everywhere.
"""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from tests.support.http.rest import REPOSITORY

SDK = REPOSITORY / "sdk" / "typescript"
_PROGRAMS = Path(sysconfig.get_path("scripts"))
_WITHIN_S = 600


class NodeFailed(RuntimeError):
    """A program of Node.js ended with an error; the message repeats what it said."""


def run(
    program: str, *arguments: str, folder: Path = SDK, env: Mapping[str, str] | None = None
) -> str:
    """Run a program of Node.js' wheel; gives what it printed. Raises NodeFailed: it ended with an error."""
    path = os.pathsep.join([str(_PROGRAMS), os.environ["PATH"]])
    done = subprocess.run(
        [_PROGRAMS / program, *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        command = " ".join([program, *arguments])
        raise NodeFailed(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@functools.cache
def tools() -> Path:
    """Install what builds the client, once for each lock file and never two at a time; gives its programs."""
    lock_file = SDK / "package-lock.json"
    stamp = SDK / "node_modules" / ".installed"
    (REPOSITORY / "build").mkdir(exist_ok=True)
    with (REPOSITORY / "build" / ".npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != lock_file.read_bytes():
            run("npm", "ci", "--prefer-offline", "--ignore-scripts")
            stamp.write_bytes(lock_file.read_bytes())
    return SDK / "node_modules" / ".bin"


def packed(folder: Path) -> Path:
    """Build the client and pack it into a folder, as it would be published."""
    tools()
    with (REPOSITORY / "build" / ".npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a build writes into its own folder
        run("npm", "pack", "--pack-destination", str(folder))
    (archive,) = folder.glob("*.tgz")
    return archive
