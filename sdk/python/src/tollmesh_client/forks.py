"""What does not outlive a fork: threads, connections and locks stay those of the process that made them."""

from __future__ import annotations

import os

import grpc  # noqa: F401 - reads the variable below as it is imported, once

from tollmesh_client.errors import UsedAfterFork

SUPPORT_VARIABLE = "GRPC_ENABLE_FORK_SUPPORT"
_SUPPORTED = os.environ.get(SUPPORT_VARIABLE, "").lower() in ("1", "t", "true", "y", "yes")
# Processes that opened a channel: this one, and those that it was forked from.
_opened_in: set[int] = set()


class Owner:
    """The process that made something; a fork makes no other one.

    Args:
        what: the thing, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._process_id = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._process_id

    def check(self) -> None:
        """Raises UsedAfterFork: this is another process."""
        if not self.is_here:
            raise UsedAfterFork(
                f"this {self._what} belongs to process {self._process_id}, which was forked after it was made: "
                f"make one in each process, after the fork. Nothing was done in process {os.getpid()}"
            )


def opening_channel() -> None:
    """Tell that this process is about to open a channel.

    Raises:
        UsedAfterFork: it was forked from one that had opened some, where gRPC's calls hang without end.
    """
    here = os.getpid()
    if _opened_in - {here} and not _SUPPORTED:
        raise UsedAfterFork(
            f"process {here} was forked from one that had made a client, and gRPC hangs in it: fork before the first "
            f"client is made, start processes by `spawn`, or set {SUPPORT_VARIABLE}=1 before Python starts"
        )
    _opened_in.add(here)
