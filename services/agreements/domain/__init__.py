"""The rules of agreements: what they are, and what may happen to them."""
