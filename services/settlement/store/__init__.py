"""Every statement of settlement, from and to domain values. Nothing here decides."""

from services.runtime.postgres import sql

SQL = sql.load("services.settlement", "queries.sql")
