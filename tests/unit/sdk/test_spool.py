"""The spool gives back what it took over, after any end of its process, and says what it cannot."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tollmesh_client import spool as module
from tollmesh_client.errors import (
    ConfigurationError,
    SpoolDamaged,
    SpoolDiskFull,
    SpoolError,
    SpoolFull,
    SpoolInUse,
)
from tollmesh_client.spool import Place, Spool, SpoolOptions

ALL = 1_000_000


def opened(folder: Path, **options: Any) -> Spool:
    return Spool(SpoolOptions(folder, **({"fsync": "never"} | options)))


def rows(first: int, count: int, size: int = 20) -> list[bytes]:
    return [f"{number:0{size}d}".encode() for number in range(first, first + count)]


def rest(spool: Spool) -> list[bytes]:
    """All that is left to take, over as many segments as there are."""
    found: list[bytes] = []
    while part := spool.take(ALL, ALL)[0]:
        found += part
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def test_records_come_in_order_and_in_the_batches_asked_for(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 5))
    spool.put(rows(5, 5))
    assert spool.records == 10
    first, _ = spool.take(3, ALL)
    by_bytes, _ = spool.take(ALL, 45)
    assert (first, by_bytes) == (rows(0, 3), rows(3, 2))
    # One that is larger than asked for is given all the same, alone.
    assert spool.take(ALL, 1)[0] == rows(5, 1)
    assert rest(spool) == rows(6, 4)
    assert spool.records == 0
    spool.close()


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_what_was_not_released_is_given_again_after_a_restart(tmp_path: Path, fsync: str) -> None:
    spool = opened(tmp_path, bytes_max=4096, fsync=fsync)
    spool.put(rows(0, 60))  # over several segments
    spool.put(rows(60, 3))
    _, place = spool.take(10, ALL)
    spool.release(place)
    spool.take(10, ALL)
    spool.close()
    again = opened(tmp_path, bytes_max=4096)
    assert again.records == 53
    assert rest(again) == rows(10, 53)
    again.close()


def test_without_its_position_all_of_the_oldest_segment_is_given_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 4))
    spool.release(spool.take(2, ALL)[1])
    spool.close()
    for hint in ("", "{}", '{"segment": 1, "offset": 3}', "[1]"):
        (tmp_path / "position").write_text(hint)
        again = opened(tmp_path)
        assert rest(again) == rows(0, 4)
        again.close()


def test_released_segments_go_and_an_emptied_spool_leaves_none(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=4096)
    for number in range(30):
        spool.put(rows(number, 1, 100))
    assert len(segments(tmp_path)) > 4
    while (taken := spool.take(7, ALL))[0]:
        spool.release(taken[1])
    assert len(segments(tmp_path)) == 1
    spool.put(rows(40, 1))
    assert rest(spool) == rows(40, 1)
    spool.release(Place(10**6, 0))
    spool.close()
    assert segments(tmp_path) == []
    # Numbers are not used again: the place of a reader is never that of another file.
    again = opened(tmp_path)
    again.put(rows(41, 1))
    assert rest(again) == rows(41, 1)
    again.close()


def test_a_full_spool_refuses_keeps_what_it_has_and_takes_again_once_emptied(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path, bytes_max=4096)
    taken_over = 0
    with pytest.raises(SpoolFull, match="limit of 4,096 bytes"):
        for taken_over in range(1000):
            spool.put(rows(taken_over, 1, 100))
    assert 30 < taken_over < 38
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 4096
    with pytest.raises(SpoolFull):
        spool.put(rows(0, 10, 100))
    kept = []
    while (taken := spool.take(1, ALL))[0]:
        kept += taken[0]
        spool.release(taken[1])
    assert kept == rows(0, taken_over, 100)
    spool.put(rows(0, 30, 100))
    assert rest(spool) == rows(0, 30, 100)
    spool.close()


@pytest.mark.parametrize("fails_at", ["first", "half"])
def test_a_full_disk_is_a_clear_error_and_costs_nothing_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 3))
    real = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if fails_at == "half" and len(data) > 30:
            return real(descriptor, data[:30], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        with pytest.raises(SpoolDiskFull, match=r"the disk is full .* is kept"):
            spool.put(rows(3, 4))
    monkeypatch.undo()
    spool.put(rows(7, 2))
    expected = rows(0, 3) + rows(7, 2)
    assert rest(spool) == expected
    spool.close()
    again = opened(tmp_path)
    assert rest(again) == expected
    again.close()


def test_a_limit_of_the_system_on_files_is_a_full_disk(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 3))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SpoolDiskFull):
            spool.put(rows(3, 10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    spool.put(rows(3, 1))
    assert rest(spool) == rows(0, 4)
    spool.close()


def test_a_sync_that_fails_refuses_the_records_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path, fsync="always")
    spool.put(rows(0, 1))

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SpoolError, match="cannot be written"):
        spool.put(rows(1, 1))
    monkeypatch.undo()
    assert rest(spool) == rows(0, 1)
    spool.close()


def test_half_a_record_at_the_end_is_cut_off_at_any_byte(tmp_path: Path) -> None:
    spool = opened(tmp_path / "whole")
    spool.put(rows(0, 2))
    spool.close()
    whole = segments(tmp_path / "whole")[0].read_bytes()
    record = len(whole) - len(module._MAGIC)
    for cut in range(1, len(whole)):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "000000000001.seg").write_bytes(whole[:-cut])
        again = opened(folder)
        left = max(record - cut, 0) // (record // 2)
        assert rest(again) == rows(0, left)
        again.put(rows(9, 1))
        assert rest(again) == rows(9, 1)
        again.close()
        at_the_end = opened(folder)
        assert rest(at_the_end) == rows(0, left) + rows(9, 1)
        at_the_end.close()


def test_room_that_was_never_written_is_cut_off_too(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 2))
    spool.close()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(bytes(500))
    again = opened(tmp_path)
    assert rest(again) == rows(0, 2)
    again.close()


@pytest.mark.parametrize("which", [0, -1], ids=["an older segment", "the last segment"])
def test_damage_before_the_end_is_told_and_never_skipped(tmp_path: Path, which: int) -> None:
    spool = opened(tmp_path, bytes_max=4096)
    spool.put(rows(0, 20))
    spool.put(rows(20, 5))
    spool.close()
    damaged = segments(tmp_path)[which]
    data = bytearray(damaged.read_bytes())
    at = len(module._MAGIC) + 2 * 28
    data[at + 20] ^= 1  # in the third record
    damaged.write_bytes(data)
    with pytest.raises(SpoolDamaged, match="set_damage_aside") as told:
        opened(tmp_path, bytes_max=4096)
    assert (told.value.path, told.value.offset) == (damaged, at)
    assert damaged.read_bytes() == data
    again = opened(tmp_path, bytes_max=4096, set_damage_aside=True)
    expected = rows(0, 2) + rows(20, 5) if which == 0 else rows(0, 20) + rows(20, 2)
    assert rest(again) == expected
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == data
    again.close()


def test_what_changes_on_the_disk_while_it_runs_is_told(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(rows(0, 2))
    with segments(tmp_path)[0].open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(SpoolDamaged):
        spool.take(ALL, ALL)
    spool.close()


def test_two_do_not_share_a_directory(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SpoolInUse, match="a directory of its own"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_what_was_put_survives_kill_9(tmp_path: Path) -> None:
    program = f"""
import os, signal
from tollmesh_client.spool import Spool, SpoolOptions
spool = Spool(SpoolOptions({str(tmp_path)!r}, bytes_max=4096, fsync="never"))
for number in range(50):
    spool.put([f"{{number:020d}}".encode()])
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", program], check=False)
    assert run.returncode == -signal.SIGKILL
    again = opened(tmp_path, bytes_max=4096)
    assert rest(again) == rows(0, 50)
    again.close()


@pytest.mark.parametrize("wrong", [{"bytes_max": 1}, {"fsync": "often"}, {"fsync_seconds": 0}])
def test_odd_options_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SpoolOptions(tmp_path, **wrong)


def test_a_directory_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        opened(tmp_path / "file")
