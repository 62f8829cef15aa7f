"""Every statement of orders, from and to domain values. Nothing here decides."""

from services.runtime.postgres import sql

SQL = sql.load("services.orders", "queries.sql")
