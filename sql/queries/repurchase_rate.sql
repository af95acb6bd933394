-- Question: of the buyers of days 31 to 60 ago, which share bought in the last 30, and likewise of 90 days?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; zone, of the shops'
--   days; as_of, the day from which days are counted back: the last 30 are the 30 before it.
-- Grain: one shop and span of days.
--
-- Purchases are sessions with an order that was not fully reversed, on the day on which the session began. So raw
-- events are not needed, and half a year is read, not all that ever was.
WITH
bought AS
(
    SELECT shop_id, customer_id, dateDiff('day', toDate32(started_at, {zone:String}), {as_of:Date32}) AS days_ago
    FROM sessions FINAL
    WHERE orders > 0
        AND ({shop:String} = '' OR shop_id = {shop:String})
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
        -- A day more at both ends, because days are the shop's.
        AND started_at >= toDateTime64({as_of:Date32} - 181, 3, 'UTC')
        AND started_at < toDateTime64({as_of:Date32} + 1, 3, 'UTC')
),
of_customer AS
(
    SELECT
        shop_id,
        customer_id,
        arrayJoin([30, 90]) AS span_days,
        countIf(days_ago BETWEEN span_days + 1 AND 2 * span_days) > 0 AS before,
        countIf(days_ago BETWEEN 1 AND span_days) > 0 AS since
    FROM bought
    GROUP BY shop_id, customer_id, span_days
)
SELECT
    shop_id,
    span_days,
    countIf(before) AS buyers,
    countIf(before AND since) AS bought_again,
    round(bought_again / nullIf(buyers, 0), 6) AS repurchase_rate
FROM of_customer
GROUP BY shop_id, span_days
ORDER BY shop_id, span_days
