-- Question: from which shop, and in which category, did buyers go to which shop?
-- Parameters: shop, the shop that lost them, or all if empty; since and until, the first and the last day, of the shop's
--   calendar.
-- Grain: one shop that was left, category, and shop that was bought in, the most orders first. An order of two categories
--   is in both. For the operator of the marketplace alone.
SELECT
    l.shop_id AS shop_id,
    category,
    l.to_shop_id AS to_shop_id,
    uniqExact(l.customer_id) AS buyers,
    count() AS orders
FROM leaks AS l FINAL
ARRAY JOIN l.categories AS category
WHERE NOT l.is_bot
    AND l.day BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR l.shop_id = {shop:String})
GROUP BY shop_id, category, to_shop_id
ORDER BY orders DESC, shop_id, category, to_shop_id
LIMIT 40
