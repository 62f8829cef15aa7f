"""Places that few may hold at once, shared out evenly among those who want them.

A place that becomes free goes to whoever holds fewest of those that wait, however many of one wait and since when. So
what one brings by the thousand slows down itself, and others by no more than the end of what is under way.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque


class PushedOut(Exception):
    """Who waited makes room for another, and has not begun."""


class FairTurns:
    """Places, taken and given back under keys.

    Args:
        places: how many there are.
        each_max: how many of them one key may hold; None for all.
    """

    def __init__(self, places: int, each_max: int | None = None) -> None:
        self._free = places
        self._each_max = places if each_max is None else each_max
        self._held: defaultdict[str, int] = defaultdict(int)
        # In the order in which keys have their turns: who was served last comes last.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def held(self, key: str) -> int:
        """Return how many places a key holds."""
        return self._held.get(key, 0)

    @property
    def waiting(self) -> int:
        """How many wait, of all keys."""
        return sum(map(len, self._waiting.values()))

    def waiting_of(self, key: str) -> int:
        """Return how many wait of a key."""
        return len(self._waiting.get(key, ()))

    def make_room(self, key: str) -> bool:
        """Push out who came last of the key that most wait of; False when nobody would have more than this one then."""
        most = max(self._waiting, key=lambda each: len(self._waiting[each]), default=key)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(key, ())) + 1:
            return False
        waiting = self._waiting[most]
        turn = waiting.pop()
        if not waiting:
            del self._waiting[most]
        if not turn.done():
            turn.set_exception(PushedOut())
        return True

    def take_free(self, key: str) -> bool:
        """Take a place that is free; False when there is none for this key.

        Somebody waits only while none is, or while the key holds all that it may.
        """
        if not self._free or self.held(key) >= self._each_max:
            return False
        self._free -= 1
        self._held[key] += 1
        return True

    async def take(self, key: str) -> None:
        """Take a place; waits until it is this key's turn. Who is cancelled meanwhile holds none.

        Raises:
            PushedOut: it waited, and made room for another.
        """
        if self.take_free(key):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and not turn.exception():
                # It was given in the moment of the cancellation.
                self.give_back(key)
            else:
                self._leave(key, turn)
            raise

    def give_back(self, key: str) -> None:
        """Give a place back, to whoever's turn it is."""
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        while (following := self._next()) is not None:
            waiting = self._waiting.pop(following)
            turn = waiting.popleft()
            if waiting:
                self._waiting[following] = waiting
            if not turn.done():
                self._held[following] += 1
                turn.set_result(None)
                return
        self._free += 1

    def _next(self) -> str | None:
        """Return whose turn it is: of those that may hold more who holds fewest, of equals the first."""
        return min(
            (key for key in self._waiting if self.held(key) < self._each_max),
            key=self.held,
            default=None,
        )

    def _leave(self, key: str, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key)
        if waiting is None or turn not in waiting:
            return
        waiting.remove(turn)
        if not waiting:
            del self._waiting[key]
