-- Question: in which shops did those who left buy what they had looked at here?
-- Parameters: shop, the shop that lost them, or all if empty; since and until, the first and the last day, of the shop's
--   calendar.
-- Grain: one shop that they bought in, the most buyers first. Exact, and so for the operator of the marketplace alone;
--   the view leak_destinations is what a seller may see. amount is net of refunds, by currency.
SELECT
    l.to_shop_id AS to_shop_id,
    uniqExact(l.customer_id) AS buyers,
    count() AS orders,
    countIf(l.intent = 'cart') AS after_cart,
    countIf(l.intent = 'favorite') AS after_favorite,
    sumMap(map(ifNull(l.currency, ''), l.amount)) AS amount
FROM leaks AS l FINAL
WHERE NOT l.is_bot
    AND l.day BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR l.shop_id = {shop:String})
GROUP BY to_shop_id
ORDER BY buyers DESC, orders DESC, to_shop_id
LIMIT 25
