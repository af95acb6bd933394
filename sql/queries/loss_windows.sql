-- Question: how has loss gone hour by hour, beside what was expected of it?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day, UTC; by_minute, whether each
--   minute has a row of its own.
-- Grain: one shop and hour, or minute if by_minute; all shops together are none of them. Rates are of sessions closed
--   without bots'; expected_lost is null where nothing was known yet of a minute. out counts minutes out of their band:
--   pending, firing, or held because the data was in doubt. orders_per_cart is of customers who changed their cart.
SELECT
    w.shop_id AS shop_id,
    if({by_minute:Bool}, w.minute, toDateTime64(toStartOfHour(w.minute), 3, 'UTC')) AS at,
    sum(w.closed) AS closed,
    sum(w.lost) AS lost,
    round(lost / nullIf(closed, 0), 6) AS loss_rate,
    if(countIf(w.closed > 0 AND isNull(w.expected_lost)) > 0, NULL, round(sum(w.expected_lost), 2)) AS expected_lost,
    countIf(w.verdict IN ('pending', 'firing', 'held')) AS out,
    sumMap(w.value_at_risk) AS value_at_risk,
    sum(w.active_carts) AS active_carts,
    sum(w.orders) AS orders,
    round(orders / nullIf(active_carts, 0), 6) AS orders_per_cart
FROM loss_windows AS w FINAL
WHERE w.scope = 'shop' AND w.shop_id != ''
    AND toDate32(w.minute, 'UTC') BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR w.shop_id = {shop:String})
GROUP BY shop_id, at
ORDER BY shop_id, at
