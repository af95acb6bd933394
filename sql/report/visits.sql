-- Question: who came to the shop, what did they do, and how did their sessions end?
-- Parameters: shop; since and until, the cycle's first and last day; days, how many these are; guests, how ids begin
--   that are left out, or empty.
-- Grain: one span (kind `cycle`, `before` or `day`: the cycle, the one before it, and each day of both) that anybody
--   came in, without bots and with them.
--
-- A visitor is a customer with a session that began in the span; a session's day is that of its start. New is who had
-- no session on the 6 days before their first day in the span. Without bots, a bot's sessions make nobody a visitor,
-- nor an old one.
WITH
arrayConcat(
    [('cycle', {since:Date32}, {until:Date32}), ('before', {since:Date32} - {days:UInt16}, {since:Date32} - 1)],
    arrayMap(
        n -> ('day', {since:Date32} - {days:UInt16} + n, {since:Date32} - {days:UInt16} + n),
        range(2 * {days:UInt32})
    )
) AS spans,
ordered AS
(
    SELECT customer_id, groupUniqArray(day) AS order_days
    FROM purchases FINAL
    WHERE shop_id = {shop:String} AND day BETWEEN {since:Date32} - {days:UInt16} AND {until:Date32}
    GROUP BY customer_id
),
visitors AS
(
    SELECT
        customer_id,
        arrayJoin([false, true]) AS with_bots,
        groupArray((
            day, outcome = 'converted', ifNull(lost_stage, ''), favorites, carts, recovered
        )) AS stays
    FROM sessions FINAL
    WHERE shop_id = {shop:String}
        AND day BETWEEN {since:Date32} - {days:UInt16} - 6 AND {until:Date32}
        -- The order of the table has no day; one more at both ends, because days are the shop's.
        AND started_at >= toDateTime64({since:Date32} - {days:UInt16} - 7, 3, 'UTC')
        AND started_at < toDateTime64({until:Date32} + 2, 3, 'UTC')
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
        AND (with_bots OR NOT is_bot)
    GROUP BY customer_id, with_bots
),
visitors_of_spans AS
(
    SELECT
        with_bots,
        arrayJoin(arrayFilter(s -> arrayExists(x -> x.1 BETWEEN s.2 AND s.3, stays), spans)) AS span,
        arrayFilter(x -> x.1 BETWEEN span.2 AND span.3, stays) AS here,
        arrayMin(arrayMap(x -> x.1, here)) AS first_day,
        NOT arrayExists(x -> x.1 BETWEEN first_day - 6 AND first_day - 1, stays) AS is_new,
        arrayExists(d -> d BETWEEN span.2 AND span.3, order_days) AS has_ordered
    FROM visitors
    LEFT JOIN ordered USING (customer_id)
)
SELECT
    with_bots,
    span.1 AS kind,
    span.2 AS first_day,
    span.3 AS last_day,
    count() AS visitors,
    countIf(is_new) AS new_visitors,
    countIf(has_ordered) AS ordering,
    countIf(arraySum(x -> x.4, here) > 0) AS favoriting,
    countIf(arraySum(x -> x.5, here) > 0) AS carting,
    sum(arraySum(x -> x.4, here)) AS favorites,
    sum(length(here)) AS sessions,
    sum(arrayCount(x -> x.2, here)) AS converted,
    sum(arrayCount(x -> x.3 = 'bounced', here)) AS bounced,
    sum(arrayCount(x -> x.3 = 'browsed', here)) AS browsed,
    sum(arrayCount(x -> x.3 = 'favorited', here)) AS favorited,
    sum(arrayCount(x -> x.3 = 'carted', here)) AS carted,
    sum(arrayCount(x -> x.6, here)) AS recovered
FROM visitors_of_spans
GROUP BY with_bots, span
ORDER BY with_bots, kind, first_day
