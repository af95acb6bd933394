-- Question: what is known of one customer, shop by shop?
-- Parameters: shop, one shop, or all if empty; customer, which.
-- Grain: the customer in one shop.
SELECT
    c.shop_id AS shop_id,
    c.stage AS stage,
    toDateTime(c.stage_since, 'UTC') AS stage_since,
    c.tier AS tier,
    c.purchase_days AS purchase_days,
    c.monetary AS monetary,
    c.currency AS currency,
    c.last_order_on AS last_order_on,
    c.usual_gap_days AS usual_gap_days,
    c.next_order_on AS next_order_on,
    c.p_alive AS p_alive,
    c.p_return_90d AS p_return_90d,
    c.discount_affinity AS discount_affinity,
    c.preferred_categories AS preferred_categories,
    toDateTime(c.last_seen_at, 'UTC') AS last_seen_at
FROM customers AS c FINAL
PREWHERE c.customer_id = {customer:String}
WHERE {shop:String} = '' OR c.shop_id = {shop:String}
ORDER BY shop_id
