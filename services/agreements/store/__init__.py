"""Every statement of agreements, from and to domain values. Nothing here decides."""

from services.runtime.postgres import sql

SQL = sql.load("services.agreements", "queries.sql")
