-- Question: who is expected to buy next, when, and what?
-- Parameters: shop, one shop, or all if empty; as_of, the first day, and days, how many more to look ahead; limit, the
--   rows at most of a shop.
-- Grain: one customer in one shop. Those whose day has passed are not here: they are overdue, or lapsing already.
SELECT
    shop_id,
    next_order_on,
    customer_id,
    stage,
    tier,
    last_order_on,
    usual_gap_days,
    p_return_90d,
    expected_orders_90d,
    average_order_value,
    currency,
    preferred_categories
FROM customers FINAL
WHERE stage IN ('new', 'active', 'won_back')
    AND ({shop:String} = '' OR shop_id = {shop:String})
    AND next_order_on BETWEEN {as_of:Date32} AND {as_of:Date32} + {days:UInt16}
ORDER BY shop_id, next_order_on, p_return_90d DESC, customer_id
LIMIT {limit:UInt32} BY shop_id
