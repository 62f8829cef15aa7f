"""Orders keeps what people buy: each order with its total and what is paid of it.

Whatever changes an order tells of it in the same transaction: `order.created` once for each order, `order.updated` once
for each change of its status, its total, what is paid of it, or its cancellation.
"""
