"""What stands between the wire and the use cases: requests in, answers and errors out, calls to others."""
