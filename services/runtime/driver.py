"""psycopg's connection beneath SQLAlchemy's, for COPY and for the paths where each call counts."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection


def driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """Return psycopg's connection inside the same transaction, which must have begun.

    `get_raw_connection` gives the same by way of a greenlet, because it may connect first.
    """
    sync = connection.sync_connection
    assert sync is not None, "the connection is open"
    driver = sync.connection.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver
