"""A queue of records on the disk that outlives its process: whatever was appended is read until it is released.

Records stand one after another in segments, files named by their number; each has its length and a checksum before it.
Appending writes to the last segment. What is released is forgotten by removing whole segments; the position up to which
it goes is kept beside them, and is only a hint: without it records are read again from the oldest segment.

A process that dies while it writes leaves half a record at the end; it was never told to be taken over, and is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import struct
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tollmesh_client.errors import (
    ConfigurationError,
    SpoolDamaged,
    SpoolDiskFull,
    SpoolError,
    SpoolFull,
    SpoolInUse,
)

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

Fsync = Literal["always", "interval", "never"]

log = logging.getLogger("tollmesh_client")

_MAGIC = b"tollmesh spool 1\n"
_HEAD = struct.Struct("<II")
_SUFFIX = ".seg"
_POSITION, _LOCK = "position", "lock"
_READ_BYTES = 256 * 1024
_SEGMENT_BYTES_MAX = 64 * 1024 * 1024
_SEGMENTS_MIN = 8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class SpoolOptions:
    """Where and how events are kept until the mesh has them.

    Attributes:
        directory: of this spool alone; made if it is missing. On a local file system.
        bytes_max: room that it may take on the disk.
        fsync: `interval` (default): what was taken over survives the end of the process at any time, and all but the
            last `fsync_seconds` a loss of power too; `always`: a loss of power too, for the price of a write to the
            disk with each call of `add`; `never`: left to the system.
        fsync_seconds: between two syncs by `interval`.
        set_damage_aside: go on when a file is damaged before its end: it is kept as `….damaged`, and what stands
            before the damage is sent. Without it SpoolDamaged is raised.
    """

    directory: str | os.PathLike[str]
    bytes_max: int = 1024 * 1024 * 1024
    fsync: Fsync = "interval"
    fsync_seconds: float = 1.0
    set_damage_aside: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a value is out of range."""
        if self.fsync not in ("always", "interval", "never"):
            raise ConfigurationError(f"SpoolOptions.fsync: {self.fsync!r} is not known")
        if self.bytes_max < 4096 or not 0 < self.fsync_seconds <= 3600:
            raise ConfigurationError(
                "SpoolOptions: bytes_max of 4096 or more and 0 < fsync_seconds <= 3600 are needed"
            )


@dataclass(frozen=True, order=True)
class Place:
    """A place in the spool: number of a segment, offset in it."""

    segment: int
    offset: int


@dataclass
class _Segment:
    """A file of records.

    Attributes:
        end: bytes of whole records, with the head of the file.
        records: how many.
    """

    number: int
    path: Path
    descriptor: int
    end: int
    records: int


class Spool:
    """The queue. Safe to use from many threads, in the process that made it.

    Args:
        options: where and how.

    Raises:
        SpoolInUse: another one has the directory.
        SpoolDamaged: a file is damaged before its end.
        SpoolError: the directory cannot be used.
    """

    def __init__(self, options: SpoolOptions) -> None:
        if fcntl is None:  # pragma: no cover - Windows
            raise ConfigurationError("a spool needs a POSIX system; leave it out")
        self._options = options
        self.directory = Path(options.directory)
        self._segment_bytes = min(_SEGMENT_BYTES_MAX, options.bytes_max // _SEGMENTS_MIN)
        self._state = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._torn = False
        self._dirty = False
        self._stop_syncing = threading.Event()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_directory()
        except OSError as error:
            raise self._failed("cannot be used", self.directory, error) from error
        try:
            self._read_at = self._released = self._load()
        except OSError as error:
            self._let_go()
            raise self._failed("cannot be read", self.directory, error) from error
        except BaseException:
            self._let_go()
            raise
        _held.add(self)
        if options.fsync == "interval":
            threading.Thread(target=self._sync_now_and_then, daemon=True).start()

    # ---- records in

    @property
    def records(self) -> int:
        """How many records wait that `take` has not given yet, as the start counted them and `put` added to."""
        return self._waiting

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        with self._state:
            return self._size()

    def put(self, records: Sequence[bytes]) -> None:
        """Append records, all or none; they outlive the process once this returns.

        Raises:
            SpoolFull: they would not fit into the spool's own limit.
            SpoolDiskFull: the disk has no room.
            SpoolError: the disk refuses.
        """
        data = b"".join(
            [_HEAD.pack(len(record), zlib.crc32(record)) + record for record in records]
        )
        with self._state:
            segment = self._room_for(len(data))
            try:
                _write_at(segment.descriptor, data, segment.end)
                if self._options.fsync == "always":
                    os.fsync(segment.descriptor)
            except OSError as error:
                # Refused as a whole: the caller will add them again, perhaps under other ids.
                self._torn = True
                self._cut(segment)
                raise self._failed("cannot be written", segment.path, error) from error
            segment.end += len(data)
            segment.records += len(records)
            self._waiting += len(records)
            self._dirty = self._options.fsync == "interval"

    def _room_for(self, size: int) -> _Segment:
        """Return the segment to append to. Raises SpoolFull, SpoolDiskFull, SpoolError."""
        last = self._segments[-1] if self._segments else None
        if last is not None and self._torn:
            self._cut(last)
            if self._torn:
                raise SpoolError(f"{last.path} cannot be cut to its whole records", last.path)
        full = last is None or (last.end > len(_MAGIC) and last.end + size > self._segment_bytes)
        # A segment that holds only what was released makes room.
        done = last is not None and self._released >= Place(last.number, last.end)
        if full or (done and self._size() + size > self._options.bytes_max):
            self._forget(everything=done)
            full = True
        if self._size() + size + (len(_MAGIC) if full else 0) > self._options.bytes_max:
            raise SpoolFull(
                f"the spool {self.directory} has reached its limit of {self._options.bytes_max:,} bytes; "
                "it empties as the mesh takes its events",
                self.directory,
            )
        if not full:
            assert last is not None
            return last
        return self._begin(max(last.number if last else 0, self._released.segment) + 1)

    def _begin(self, number: int) -> _Segment:
        if self._segments and self._dirty:
            self._sync(self._segments[-1])
        path = self.directory / f"{number:012d}{_SUFFIX}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise self._failed("cannot be written", path, error) from error
        try:
            _write_at(descriptor, _MAGIC, 0)
            if self._options.fsync != "never":
                os.fsync(descriptor)
                self._sync_directory()
        except OSError as error:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise self._failed("cannot be written", path, error) from error
        segment = _Segment(number, path, descriptor, len(_MAGIC), 0)
        if not self._segments:
            self._read_at = self._released = Place(number, len(_MAGIC))
        self._segments.append(segment)
        return segment

    def _cut(self, segment: _Segment) -> None:
        """Remove half a record behind the end; if that fails, the next `put` tries again."""
        with contextlib.suppress(OSError):
            os.ftruncate(segment.descriptor, segment.end)
            self._torn = False

    # ---- records out

    def take(self, records_max: int, bytes_max: int) -> tuple[list[bytes], Place]:
        """Return the next records, at least one if there is one, and the place behind them, for `release`.

        Raises:
            SpoolDamaged: what the disk gives back is not what was written.
            SpoolError: the disk refuses.
        """
        with self._state:
            self._next_segment()
            segment = next(
                (item for item in self._segments if item.number == self._read_at.segment), None
            )
            if segment is None:
                return [], self._read_at
            found: list[bytes] = []
            size, offset = 0, self._read_at.offset
            try:
                for record in _records(segment, offset, segment.end):
                    if found and (len(found) == records_max or size + len(record) > bytes_max):
                        break
                    found.append(record)
                    size += len(record)
                    offset += _HEAD.size + len(record)
            except OSError as error:
                raise self._failed("cannot be read", segment.path, error) from error
            self._read_at = Place(segment.number, offset)
            self._waiting -= len(found)
            return found, self._read_at

    def _next_segment(self) -> None:
        for segment in self._segments:
            if segment.number > self._read_at.segment:
                self._read_at = Place(segment.number, len(_MAGIC))
                return
            if segment.number == self._read_at.segment and segment.end > self._read_at.offset:
                return

    def release(self, place: Place) -> None:
        """Forget the records before a place: the mesh has them."""
        with self._state:
            self._released = place
            self._forget(everything=False)
            self._keep_position()

    def _forget(self, *, everything: bool) -> None:
        """Remove segments that hold only what was released; the last one only if told."""
        keep = 0 if everything else 1
        while len(self._segments) > keep:
            first = self._segments[0]
            if self._released < Place(first.number, first.end):
                return
            self._segments.popleft()
            os.close(first.descriptor)
            try:
                first.path.unlink()
            except OSError as error:
                # Its records are sent again after a restart, and are duplicates then.
                log.warning("the spool cannot remove %s: %s", first.path, error)

    def _keep_position(self) -> None:
        text = json.dumps({"segment": self._released.segment, "offset": self._released.offset})
        path = self.directory / _POSITION
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(text)
            partial.replace(path)
        except OSError as error:  # only a hint: a full disk must not keep the mesh from emptying us
            log.debug("the spool cannot keep its position: %s", error)

    # ---- start and end

    def close(self) -> None:
        """Let go of the directory; what was not released stays in it."""
        self._stop_syncing.set()
        with self._state:
            last = self._segments[-1] if self._segments else None
            if last is not None and self._released >= Place(last.number, last.end):
                self._forget(everything=True)
            elif last is not None and self._dirty:
                with contextlib.suppress(SpoolError):
                    self._sync(last)
            self._let_go()

    def _let_go(self) -> None:
        _held.discard(self)
        while self._segments:
            os.close(self._segments.popleft().descriptor)
        os.close(self._lock)

    def _let_go_of_copies(self) -> None:
        descriptors = [self._lock, *(segment.descriptor for segment in self._segments)]
        self._segments.clear()
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _take_directory(self) -> int:
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise SpoolInUse(
                f"the spool {self.directory} is in use by another ingester: give each process a directory of its own",
                self.directory,
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _load(self) -> Place:
        """Open what a run before left; return the place where its reader goes on."""
        self._waiting = 0
        numbered = sorted(
            (int(path.stem), path)
            for path in self.directory.glob(f"*{_SUFFIX}")
            if path.stem.isdigit()
        )
        position = self._stored_position()
        for index, (number, path) in enumerate(numbered):
            segment = self._open(number, path, last=index == len(numbered) - 1)
            if segment is not None:
                self._segments.append(segment)
        if not self._segments:
            return position or Place(0, 0)
        first = self._segments[0]
        start = Place(first.number, len(_MAGIC))
        if position is not None and position > start:
            start = position
        for segment in self._segments:
            # A place that is none, as of another file of the same name, must not hide records.
            if segment.number == start.segment:
                places = {at for at, _ in _walk(segment, len(_MAGIC))} | {segment.end}
                if start.offset not in places:
                    start = Place(segment.number, len(_MAGIC))
                self._waiting += sum(1 for at, _ in _walk(segment, start.offset))
            elif segment.number > start.segment:
                self._waiting += segment.records
        return start

    def _stored_position(self) -> Place | None:
        try:
            stored = json.loads((self.directory / _POSITION).read_text())
            return Place(int(stored["segment"]), int(stored["offset"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _open(self, number: int, path: Path, *, last: bool) -> _Segment | None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            size = os.fstat(descriptor).st_size
            segment = _Segment(number, path, descriptor, size, 0)
            good = len(_MAGIC)
            whole = os.pread(descriptor, len(_MAGIC), 0) == _MAGIC
            if whole:
                for _, after in _walk(segment, good):
                    good = after
                    segment.records += 1
            if not whole and size >= len(_MAGIC):
                self._damaged(path, 0)
            elif good < size and not (last and _is_torn(segment, good)):
                self._damaged(path, good)
            elif good < size:
                self._keep_cut(segment, good)
            if good < size:
                os.ftruncate(descriptor, good if whole else 0)
            if not whole:
                _write_at(descriptor, _MAGIC, 0)
            segment.end = good
            return segment
        except BaseException:
            os.close(descriptor)
            raise

    def _damaged(self, path: Path, offset: int) -> None:
        """Set a damaged file aside, or refuse it."""
        if not self._options.set_damage_aside:
            raise SpoolDamaged(
                f"{path} is damaged at byte {offset:,}: what stands behind cannot be read. Start with "
                "SpoolOptions(set_damage_aside=True) to send what stands before, and keep the file",
                path,
                offset,
            )
        aside = path.with_name(f"{path.name}.damaged")
        shutil.copyfile(path, aside)
        log.error("%s is damaged at byte %d: it is kept as %s", path, offset, aside)

    def _keep_cut(self, segment: _Segment, good: int) -> None:
        """Keep what is cut off behind the last whole record. It was never told to be taken over; but who knows."""
        aside = segment.path.with_name(f"{segment.path.name}.cut")
        cut = os.pread(segment.descriptor, segment.end - good, good)
        log.warning(
            "half a record, %d bytes, is cut off %s and kept as %s", len(cut), segment.path, aside
        )
        try:
            aside.write_bytes(cut)
        except OSError as error:
            log.warning("%s cannot be written: %s", aside, error)

    # ---- disk

    def _size(self) -> int:
        return sum(segment.end for segment in self._segments)

    def _sync(self, segment: _Segment) -> None:
        try:
            os.fsync(segment.descriptor)
            self._dirty = False
        except OSError as error:
            raise self._failed("cannot be synced", segment.path, error) from error

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_now_and_then(self) -> None:
        while not self._stop_syncing.wait(self._options.fsync_seconds):
            with self._state:
                if not (self._dirty and self._segments) or self._stop_syncing.is_set():
                    continue
                # Others go on writing meanwhile: the file is synced through a descriptor of its own.
                descriptor = os.dup(self._segments[-1].descriptor)
                self._dirty = False
            try:
                os.fsync(descriptor)
            except OSError as error:
                log.error("the spool %s cannot be synced: %s", self.directory, error)
            finally:
                os.close(descriptor)

    def _failed(self, what: str, path: Path, error: OSError) -> SpoolError:
        if error.errno in _NO_ROOM:
            return SpoolDiskFull(
                f"the spool {path} {what}: the disk is full ({error.strerror}). Make room and add the event again; "
                "all that was taken over is kept",
                path,
            )
        return SpoolError(f"the spool {path} {what}: {error.strerror or error}", path)


# Those that this process holds open.
_held: weakref.WeakSet[Spool] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    """Close what the fork copied: a lock is free only once all copies are closed, and its owner may end first."""
    for spool in tuple(_held):
        spool._let_go_of_copies()
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go_after_fork)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _is_torn(segment: _Segment, good: int) -> bool:
    """True when what stands behind the last whole record is the beginning of one, or room that was never written."""
    rest = os.pread(segment.descriptor, segment.end - good, good)
    if len(rest) < _HEAD.size or not rest.strip(b"\0"):
        return True
    length, _ = _HEAD.unpack_from(rest)
    return bool(length > len(rest) - _HEAD.size)


def _walk(segment: _Segment, offset: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each whole record from an offset on; ends at the first that is none."""
    try:
        for record in _records(segment, offset, segment.end):
            after = offset + _HEAD.size + len(record)
            yield offset, after
            offset = after
    except SpoolDamaged:
        return


def _records(segment: _Segment, offset: int, end: int) -> Iterator[bytes]:
    """Yield the records of a segment between two offsets. Raises SpoolDamaged."""
    data, start = b"", offset
    while offset < end:
        begin = offset - start
        if len(data) - begin >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(data, begin)
            begin += _HEAD.size
            record = data[begin : begin + length]
            if len(record) == length:
                if not length or zlib.crc32(record) != checksum:
                    break
                yield record
                offset += _HEAD.size + length
                continue
            needed = _HEAD.size + length
        else:
            needed = _HEAD.size
        if offset + needed > end:
            break
        data, start = os.pread(segment.descriptor, max(needed, _READ_BYTES), offset), offset
        data = data[: end - offset]
        if len(data) < needed:
            break
    else:
        return
    raise SpoolDamaged(f"{segment.path} is damaged at byte {offset:,}", segment.path, offset)
