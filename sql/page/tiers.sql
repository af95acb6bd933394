-- Question: how many buyers are in each tier, and what are they worth?
-- Parameters: shop, one shop, or all if empty; as_of, the day that recency is counted up to.
-- Grain: one tier (null: the shop has no cut points yet), the most buyers first. Prospects have no tier and are left out.
--   Scores are by the quintiles of each shop. monetary maps currency to net revenue.
SELECT
    c.tier AS tier,
    sum(c.buyers) AS buyers,
    round(buyers / sum(buyers) OVER (), 6) AS share,
    round(avgMerge(c.r), 2) AS r,
    round(avgMerge(c.f), 2) AS f,
    round(avgMerge(c.m), 2) AS m,
    quantileExactLowMerge(c.silent_days) AS median_recency_days,
    quantileExactLowMerge(c.days_of_purchase) AS median_purchase_days,
    sumMap(map(ifNull(c.currency, ''), c.net)) AS monetary
FROM
(
    -- By currency first: a map for each buyer would take longer than all else.
    SELECT
        tier,
        currency,
        count() AS buyers,
        avgState(r_score) AS r,
        avgState(f_score) AS f,
        avgState(m_score) AS m,
        quantileExactLowState(dateDiff('day', last_order_on, {as_of:Date32})) AS silent_days,
        quantileExactLowState(purchase_days) AS days_of_purchase,
        sum(customers.monetary) AS net
    FROM customers FINAL
    WHERE purchase_days > 0 AND ({shop:String} = '' OR shop_id = {shop:String})
    GROUP BY tier, currency
) AS c
GROUP BY tier
ORDER BY buyers DESC, tier
