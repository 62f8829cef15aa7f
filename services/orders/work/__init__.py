"""What falls due of payments and of credits."""
