-- Question: of those who first bought in a month, which share bought one, two, three … months later?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; zone, of the shops'
--   months; cohorts_since, in the first month of first orders that is looked at; until, the last day that is counted.
-- Grain: one shop, cohort (the month of the first order) and number of months since: 0 is the cohort
--   itself, and the last month may be unfinished.
--
-- Purchases are sessions with an order that was not fully reversed, on the day on which the session began: raw
-- events are not needed. All sessions are looked at, because who bought earlier is in an earlier cohort.
WITH
buyers AS
(
    SELECT
        shop_id,
        groupUniqArray(toStartOfMonth(toDate32(started_at, {zone:String}))) AS months,
        arrayMin(months) AS cohort
    FROM sessions FINAL
    WHERE orders > 0
        AND ({shop:String} = '' OR shop_id = {shop:String})
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
        AND toDate32(started_at, {zone:String}) <= {until:Date32}
    GROUP BY shop_id, customer_id
    HAVING cohort >= toStartOfMonth({cohorts_since:Date32})
),
counted AS
(
    SELECT shop_id, cohort, dateDiff('month', cohort, arrayJoin(months)) AS months_since, count() AS buyers
    FROM buyers
    GROUP BY shop_id, cohort, months_since
)
SELECT
    c.shop_id AS shop_id,
    c.cohort AS cohort,
    n AS months_since,
    c.buyers AS cohort_buyers,
    ifNull(k.buyers, 0) AS bought,
    round(bought / cohort_buyers, 6) AS retention
FROM
(
    -- Each month up to the last, also where nobody bought.
    SELECT shop_id, cohort, buyers, arrayJoin(range(0, 1 + dateDiff('month', cohort, {until:Date32}))) AS n
    FROM counted
    WHERE months_since = 0
) AS c
LEFT JOIN counted AS k ON k.shop_id = c.shop_id AND k.cohort = c.cohort AND k.months_since = c.n
ORDER BY shop_id, cohort, months_since
