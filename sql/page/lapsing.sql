-- Question: which buyers are lapsing, and whom to care about first?
-- Parameters: shop, one shop, or all if empty; as_of, the day that silence is counted up to.
-- Grain: one customer in one shop; 100 at most. First come those with the most revenue by the shop's quintiles, and of
--   these the likeliest to return.
SELECT
    c.customer_id AS customer_id,
    c.shop_id AS shop_id,
    c.tier AS tier,
    c.monetary AS monetary,
    c.currency AS currency,
    c.last_order_on AS last_order_on,
    dateDiff('day', c.last_order_on, {as_of:Date32}) AS silent_days,
    c.usual_gap_days AS usual_gap_days,
    dateDiff('day', c.next_order_on, {as_of:Date32}) AS overdue_days,
    c.p_alive AS p_alive,
    c.p_return_90d AS p_return_90d,
    c.discount_affinity AS discount_affinity,
    c.preferred_categories AS preferred_categories
FROM customers AS c FINAL
WHERE c.stage = 'lapsing' AND ({shop:String} = '' OR c.shop_id = {shop:String})
ORDER BY c.m_score DESC NULLS LAST, p_return_90d DESC NULLS LAST, shop_id, customer_id
LIMIT 100
