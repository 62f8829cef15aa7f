"""Whether the process of a lease's holder has ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.runtime.events.owners import has_ended, new_owner

TELL = (
    "from services.runtime.events.owners import new_owner; print(new_owner(), flush=True); input()"
)


def test_a_process_has_ended_once_it_is_gone_and_not_before() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        owner = child.stdout.readline().strip()
        assert not has_ended(owner)
        child.kill()
        child.wait(30)
        assert has_ended(owner)


def test_holders_of_one_process_are_several_and_live() -> None:
    first, second = new_owner(), new_owner()
    assert first != second
    assert f":{os.getpid()}:" in first
    assert not has_ended(first)
    assert not has_ended(second)


@pytest.mark.parametrize("place", ["", "elsewhere/boot/pid:[1]"])
def test_of_another_machine_nothing_is_concluded(place: str) -> None:
    assert not has_ended(f"{place}:{2**22 + 1}:id")


@pytest.mark.parametrize("owner", ["", "ghost", ":", "::", "a:b:c"])
def test_what_is_no_holder_s_name_has_not_ended(owner: str) -> None:
    assert not has_ended(owner)


def test_the_first_process_of_all_is_never_gone() -> None:
    here = new_owner().rsplit(":", 2)[0]
    assert not has_ended(f"{here}:1:id")
    assert not has_ended(f"{here}:x:id")
