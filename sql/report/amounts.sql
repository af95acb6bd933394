-- Question: how much was paid in the shop, taken back, left in carts, and spent elsewhere?
-- Parameters: shop; since and until, the cycle's first and last day; days, how many these are; guests, how ids begin
--   that are left out, or empty.
-- Grain: one figure, currency (XXX: none was told) and span (kind `cycle`, `before` or `day`: the cycle, the one before
--   it, and each day of both) with such an amount, without bots and with them. Currencies are never added.
--
-- paid: orders as ordered, on their day; refunded: what has been taken back of these orders since, whenever that was.
-- value_at_risk: carts standing when lost sessions closed, on the day they began; leaked: what visitors who bought
-- nothing here on the day of their visit spent elsewhere on what they had looked at, less refunds. An order counts
-- whoever placed it: bots are left out of the last two alone.
WITH
arrayConcat(
    [('cycle', {since:Date32}, {until:Date32}), ('before', {since:Date32} - {days:UInt16}, {since:Date32} - 1)],
    arrayMap(
        n -> ('day', {since:Date32} - {days:UInt16} + n, {since:Date32} - {days:UInt16} + n),
        range(2 * {days:UInt32})
    )
) AS spans,
amounts AS
(
    SELECT 'paid' AS figure, day, customer_id, currency, total AS amount, false AS is_bot
    FROM purchases FINAL
    WHERE shop_id = {shop:String} AND day BETWEEN {since:Date32} - {days:UInt16} AND {until:Date32}
    UNION ALL
    SELECT 'refunded', day, customer_id, currency, refunded, false
    FROM purchases FINAL
    WHERE shop_id = {shop:String} AND day BETWEEN {since:Date32} - {days:UInt16} AND {until:Date32} AND refunded > 0
    UNION ALL
    SELECT 'value_at_risk', day, customer_id, currency, cart_value, is_bot
    FROM sessions FINAL
    WHERE shop_id = {shop:String} AND day BETWEEN {since:Date32} - {days:UInt16} AND {until:Date32}
        AND started_at >= toDateTime64({since:Date32} - {days:UInt16} - 1, 3, 'UTC')
        AND started_at < toDateTime64({until:Date32} + 2, 3, 'UTC')
        AND outcome = 'lost' AND cart_value > 0
    UNION ALL
    SELECT 'leaked', day, customer_id, currency, amount, is_bot
    FROM leaks FINAL
    WHERE shop_id = {shop:String} AND day BETWEEN {since:Date32} - {days:UInt16} AND {until:Date32} AND amount > 0
)
SELECT
    figure,
    arrayJoin([false, true]) AS with_bots,
    arrayJoin(arrayFilter(s -> day BETWEEN s.2 AND s.3, spans)) AS span,
    span.1 AS kind,
    span.2 AS first_day,
    span.3 AS last_day,
    ifNull(currency, 'XXX') AS in_currency,
    sum(amount) AS total_amount,
    uniqExact(customer_id) AS customers,
    count() AS pieces
FROM amounts
WHERE ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String})) AND (with_bots OR NOT is_bot)
GROUP BY figure, with_bots, span, in_currency
ORDER BY figure, with_bots, kind, first_day, in_currency
