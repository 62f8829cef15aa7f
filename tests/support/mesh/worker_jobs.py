"""What tests let workers do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from services.runtime.errors import InvalidField


def echo(shared: object, item: object) -> object:
    """Return both."""
    return shared, item


def burn(_: None, cpu_seconds: float) -> float:
    """Use up so much of a processor, in one piece."""
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass
    return cpu_seconds


def wait_for(_: None, path: str) -> str:
    """Return once a file is there, which takes no processor."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def refuse(_: None, item: str) -> None:
    """Refuse an item as a caller's fault, any other way for `bug`."""
    if item == "bug":
        raise KeyError(item)
    if item == "memory":
        raise MemoryError
    if item == "die":
        os.abort()
    raise InvalidField.one("item", item)


def environment(_: None, name: str) -> str | None:
    """Return what the process has in its environment."""
    return os.environ.get(name)


def pid(_: None, item: object) -> int:
    """Return the process's id."""
    return os.getpid()


def say(_: None, item: str) -> str:
    """Print, which must not get between the answers."""
    sys.stdout.write(item)
    sys.stdout.flush()
    return item
