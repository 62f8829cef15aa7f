"""A replay and the filling-in of a new consumer take turns.

Each leaves out what the other has put into the queue; of two that ran at once neither saw the other's, and the
consumer would have been given an event as new and as replayed.
"""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0008"
down_revision = "0007"

_REPLAYS = import_module("services.runtime.migrations.versions.0007_replays")
_BEGIN = "PERFORM pg_advisory_xact_lock_shared(hashtextextended('tollmesh.feed', 0));"
# Who fills in a page holds the same lock alone. It stands for the consumer and not for a row, which may not be there
# yet; and it comes before the feed and the lanes, as there: else the two could wait for each other.
_TURN = f"""PERFORM pg_advisory_xact_lock_shared(hashtextextended('tollmesh.back_fill/' || of_consumer, 0));
  {_BEGIN}"""


def upgrade() -> None:
    """Let them wait."""
    for statement in (_REPLAYS._REPLAY_DEAD_LETTERS, _REPLAYS._REPLAY_EVENTS):
        assert statement.count(_BEGIN) == 1
        _replace(statement.replace(_BEGIN, _TURN))


def downgrade() -> None:
    """Let them be."""
    _replace(_REPLAYS._REPLAY_DEAD_LETTERS)
    _replace(_REPLAYS._REPLAY_EVENTS)


def _replace(statement: str) -> None:
    op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
