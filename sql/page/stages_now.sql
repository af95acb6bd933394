-- Question: how many customers stand at each stage of their lifecycle, and what are they worth?
-- Parameters: shop, one shop, or all if empty.
-- Grain: one stage. monetary maps currency to net revenue.
SELECT
    s.stage AS stage,
    sum(s.customers) AS customers,
    sum(s.orders) AS orders,
    sumMap(s.monetary) AS monetary
FROM lifecycle_by_shop AS s
WHERE {shop:String} = '' OR s.shop_id = {shop:String}
GROUP BY stage
ORDER BY indexOf(['prospect', 'new', 'active', 'lapsing', 'lapsed', 'won_back'], stage)
