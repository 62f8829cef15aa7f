"""Sessions of Postgres: pools, statements, roles, what migrations say of tables."""
