"""Carries events between databases through NATS JetStream.

A *site* is a mesh with a database of its own. Its sink publishes the events that were born there to the
site's stream; sources of other sites take them into their own logs, from where reactions run as for any event.
Postgres stays the log of record at both ends: the stream is transport and can be made again by a replay.
"""

from services.runtime.events.jetstream.look import look_at, look_at_spool
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.transport import Transport

__all__ = ["Options", "Transport", "look_at", "look_at_spool"]
