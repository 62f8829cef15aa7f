"""How services speak to Postgres: roles and schemas, sessions and their pool, named statements."""
