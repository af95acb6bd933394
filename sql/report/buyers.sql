-- Question: who bought in the shop, and who of them had bought before?
-- Parameters: shop; since and until, the cycle's first and last day; days, how many these are; guests, how ids begin
--   that are left out, or empty.
-- Grain: one span (kind `cycle`, `before` or `day`: the cycle, the one before it, and each day of both) with an order.
--
-- Orders count as ordered: what was taken back later does not unmake a buyer. Old is who also ordered on one of the
-- 365 days before their first order's day in the span; all others are new.
WITH
arrayConcat(
    [('cycle', {since:Date32}, {until:Date32}), ('before', {since:Date32} - {days:UInt16}, {since:Date32} - 1)],
    arrayMap(
        n -> ('day', {since:Date32} - {days:UInt16} + n, {since:Date32} - {days:UInt16} + n),
        range(2 * {days:UInt32})
    )
) AS spans,
buyers AS
(
    SELECT customer_id, groupArray(day) AS order_days
    FROM purchases FINAL
    WHERE shop_id = {shop:String}
        AND day BETWEEN {since:Date32} - {days:UInt16} - 365 AND {until:Date32}
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
    GROUP BY customer_id
),
buyers_of_spans AS
(
    SELECT
        arrayJoin(arrayFilter(s -> arrayExists(d -> d BETWEEN s.2 AND s.3, order_days), spans)) AS span,
        arrayFilter(d -> d BETWEEN span.2 AND span.3, order_days) AS here,
        arrayMin(here) AS first_day,
        arrayExists(d -> d BETWEEN first_day - 365 AND first_day - 1, order_days) AS is_old
    FROM buyers
)
SELECT
    span.1 AS kind,
    span.2 AS first_day,
    span.3 AS last_day,
    count() AS buyers,
    countIf(is_old) AS old_buyers,
    sum(length(here)) AS orders
FROM buyers_of_spans
GROUP BY span
ORDER BY kind, first_day
