"""Built packages, and environments that hold nothing but them."""
