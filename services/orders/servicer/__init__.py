"""Answers of the RPCs of orders and credits."""
