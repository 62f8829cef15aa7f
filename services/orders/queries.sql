Statements of orders. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_order
INSERT INTO orders.sales_order (tenant_id, order_id, person_id, organization_id, status, currency_code, total_minor,
                                created_via, notes, operator_flags, created_at)
VALUES (%(tenant_id)s, %(order_id)s, %(person_id)s, %(organization_id)s, %(status)s, %(currency_code)s,
        %(total_minor)s, %(created_via)s, %(notes)s, %(operator_flags)s, %(created_at)s);

-- @lock_order
-- Two that change an order follow one another, and the second sees what the first has left.
SELECT * FROM orders.sales_order WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s FOR UPDATE;

-- @read_order
SELECT * FROM orders.sales_order WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s;

-- @update_order
UPDATE orders.sales_order
   SET status = %(status)s, total_minor = %(total_minor)s, paid_minor = %(paid_minor)s,
       refunded_minor = %(refunded_minor)s, updated_via = %(updated_via)s, notes = %(notes)s,
       operator_flags = %(operator_flags)s, cancel_reason = %(cancel_reason)s, cancelled_at = %(cancelled_at)s,
       updated_at = %(updated_at)s
 WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s;
