-- Question: which buyers are lapsing, and whom to care about first?
-- Parameters: shop, one shop, or all if empty; as_of, the day that silence is counted up to; limit, the rows at most of
--   a shop.
-- Grain: one customer in one shop. First come those with the most revenue, and of these the likeliest to return.
SELECT
    shop_id,
    customer_id,
    tier,
    last_order_on,
    dateDiff('day', last_order_on, {as_of:Date32}) AS silent_days,
    usual_gap_days,
    next_order_on,
    dateDiff('day', next_order_on, {as_of:Date32}) AS overdue_days,
    p_alive,
    p_return_90d,
    purchase_days,
    monetary,
    currency,
    discount_affinity,
    preferred_categories,
    last_seen_at
FROM customers FINAL
WHERE stage = 'lapsing' AND ({shop:String} = '' OR shop_id = {shop:String})
ORDER BY shop_id, m_score DESC NULLS LAST, p_return_90d DESC NULLS LAST, customer_id
LIMIT {limit:UInt32} BY shop_id
