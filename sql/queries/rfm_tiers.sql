-- Question: how many buyers are in each tier, and what are they worth?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; as_of, the day that
--   recency is counted up to.
-- Grain: one shop and tier (null: the shop has no cut points yet). Prospects have no tier and are left out.
SELECT
    c.shop_id AS shop_id,
    c.tier AS tier,
    count() AS buyers,
    round(buyers / sum(buyers) OVER (PARTITION BY shop_id), 6) AS share,
    round(avg(c.r_score), 2) AS r,
    round(avg(c.f_score), 2) AS f,
    round(avg(c.m_score), 2) AS m,
    quantileExactLow(dateDiff('day', c.last_order_on, {as_of:Date32})) AS median_recency_days,
    quantileExactLow(c.purchase_days) AS median_purchase_days,
    -- By currency, because amounts of different currencies are never added.
    sumMap(map(ifNull(c.currency, ''), c.monetary)) AS monetary
FROM customers AS c FINAL
WHERE c.purchase_days > 0 AND ({shop:String} = '' OR c.shop_id = {shop:String})
    AND ({guests:String} = '' OR NOT startsWith(c.customer_id, {guests:String}))
GROUP BY shop_id, tier
ORDER BY shop_id, buyers DESC, tier
