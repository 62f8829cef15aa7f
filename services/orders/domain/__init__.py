"""The rules of orders: what they are, and what may happen to them."""
