-- From which day to which the raw events hold orders, and of how many buyers.
-- Grain: one row; days are counted from 1970-01-01, and are 0 where there is no order.
--
-- {amendment_ms}, {zone}: the policy.
SELECT uniqExact(shop_id, customer_id) AS buyers, min(day) AS first_day, max(day) AS last_day
FROM
(
    /* standing_orders.sql */
)
