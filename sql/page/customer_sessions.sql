-- Question: which sessions did one customer have?
-- Parameters: shop, one shop, or all if empty; customer, which.
-- Grain: one session, the latest first; 50 at most.
SELECT
    toDateTime(s.started_at, 'UTC') AS started_at,
    s.shop_id AS shop_id,
    s.outcome AS outcome,
    s.lost_stage AS lost_stage,
    s.events AS events,
    s.channel AS channel,
    s.cart_value AS cart_value,
    s.revenue AS revenue,
    s.currency AS currency,
    s.recovered AS recovered
FROM sessions AS s FINAL
PREWHERE s.customer_id = {customer:String}
WHERE {shop:String} = '' OR s.shop_id = {shop:String}
ORDER BY started_at DESC, shop_id
LIMIT 50
