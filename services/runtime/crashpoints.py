"""Named crash points: where the chaos suite kills the process. Free in production.

`TOLLMESH_CRASHPOINT=<name>[:n]` kills the process with SIGKILL at the n-th pass (default 1) of the point.
`TOLLMESH_CRASHPOINT=@<file>` does so at the point that the file names by then; without the file nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_setting = os.environ.get("TOLLMESH_CRASHPOINT", "")
_file = Path(_setting[1:]) if _setting.startswith("@") else None
_target, _, _count = _setting.partition(":")
_passes_left = int(_count or 1) if _file is None else 1


def crashpoint(name: str) -> None:
    """Die here, at once and without clean-up, when the environment names this point."""
    if not _setting or name != (_target if _file is None else _named(_file)):
        return
    global _passes_left  # noqa: PLW0603 - one countdown a process is what the variable asks for
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _named(file: Path) -> str:
    # Without the file no point is armed.
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="utf-8")
    return ""
