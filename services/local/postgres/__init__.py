"""PostgreSQL out of a wheel, run and supervised as a child of this process."""
