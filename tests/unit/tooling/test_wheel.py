"""What is released together has one version, and a wheel says truly where its program runs."""

import re
import shutil
import struct
import sys
import tomllib
from pathlib import Path

from tools import wheel_hook

ROOT = Path(__file__).resolve().parents[3]


def test_server_client_and_facade_have_one_version() -> None:
    versions = {
        tomllib.loads((ROOT / name).read_text())["project"]["version"]
        for name in ("pyproject.toml", "sdk/python/pyproject.toml")
    }
    main = (ROOT / "services/gateway/main.go").read_text()
    versions |= set(re.findall(r'^const version = "(.*)"$', main, re.MULTILINE))
    assert len(versions) == 1


def test_the_generated_messages_and_their_library_are_of_one_version() -> None:
    client = tomllib.loads((ROOT / "sdk/python/pyproject.toml").read_text())
    needed = next(
        entry for entry in client["project"]["dependencies"] if entry.startswith("betterproto2")
    )
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert needed in root["dependency-groups"]["dev"]


def elf(*kinds: int) -> bytes:
    """A program of 64 bits with segments of these kinds."""
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(kinds))
    return bytes(head) + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)


def test_a_program_that_needs_a_loader_is_not_said_to_run_everywhere(tmp_path: Path) -> None:
    assert wheel_hook.needs_loader(elf(6, 3, 1))
    assert not wheel_hook.needs_loader(elf(6, 1))
    assert wheel_hook.needs_loader(b"#!/bin/sh")
    assert wheel_hook.needs_loader(Path(sys.executable).read_bytes())
    (tmp_path / "static").write_bytes(elf(1))
    shutil.copy(sys.executable, tmp_path / "dynamic")
    if sys.platform == "linux":
        static = wheel_hook.platform_tag(tmp_path / "static")
        assert re.fullmatch(r"manylinux_2_17_(\w+)\.musllinux_1_1_\1", static)
    assert "musllinux_1_1" not in wheel_hook.platform_tag(tmp_path / "dynamic")
