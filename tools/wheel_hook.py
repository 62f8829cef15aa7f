"""Puts the REST facade's program and the quickstart into the server's wheel, and names the platform that it runs on.

The program is the one that TOLLMESH_GATEWAY names, else build/gateway; without one the wheel runs everywhere, and has
no REST. `make wheel` builds it linked statically, so that a wheel of Linux needs no particular libc.
"""

from __future__ import annotations

import os
import platform
import struct
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging import tags

# Where services/local/gateway.py looks for it.
PLACE = "services/local/bin/gateway"
# Where services/cli/quickstart.py looks for its documents.
QUICKSTART = "services/cli/data/quickstart"
_ELF = b"\x7fELF"
_PT_INTERP = 3
# A static program asks nothing of a libc. These are the oldest that installers tell apart.
_STATIC = ("manylinux_2_17_{machine}", "musllinux_1_1_{machine}")


class WithFacade(BuildHookInterface[Any]):
    """Adds the program and the quickstart to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name program and platform to the build; an editable install takes it from build/."""
        if version == "editable":
            return
        for document in Path(self.root, "examples/quickstart").glob("*.yaml"):
            build_data["force_include"][str(document)] = f"{QUICKSTART}/{document.name}"
        chosen = os.environ.get("TOLLMESH_GATEWAY")
        program = Path(chosen) if chosen else Path(self.root, "build/gateway")
        if not program.is_file():
            if chosen:
                raise FileNotFoundError(f"TOLLMESH_GATEWAY: {program} is no file")
            return
        build_data["force_include"][str(program)] = PLACE
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(program)}"


def platform_tag(program: Path) -> str:
    """Return the platforms of a program of this machine, as wheels name them."""
    if platform.system() == "Linux" and not needs_loader(program.read_bytes()):
        return ".".join(_STATIC).format(machine=platform.machine())
    return next(iter(tags.platform_tags()))


def needs_loader(program: bytes) -> bool:
    """True for an ELF program of 64 bits that a dynamic loader has to start, and for anything else.

    >>> needs_loader(b"#!/bin/sh")
    True
    """
    if not program.startswith(_ELF + b"\x02\x01"):
        return True
    (offset,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    kinds = (struct.unpack_from("<I", program, offset + size * at)[0] for at in range(count))
    return _PT_INTERP in kinds
