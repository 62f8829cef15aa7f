"""A whole mesh on one machine: embedded Postgres, secrets, every service, the REST facade as a child."""
