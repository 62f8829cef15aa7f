"""What stands between a call and a use case: the server and its pipeline, and the way out to other services."""
