-- Question: how many customers stand at each stage of their lifecycle, and what are they worth?
-- Parameters: shop, one shop, or all if empty.
-- Grain: one stage. monetary maps currency to net revenue.
SELECT
    c.stage AS stage,
    sum(c.customers) AS customers,
    sum(c.orders) AS orders,
    sumMapIf(map(c.of_currency, c.net), c.buyers > 0) AS monetary
FROM
(
    -- As the view lifecycle_by_shop has it, but by currency first: a map for each customer would take longer.
    SELECT
        stage,
        ifNull(currency, '') AS of_currency,
        count() AS customers,
        countIf(customers.orders > 0) AS buyers,
        sum(customers.orders) AS orders,
        sumIf(customers.monetary, customers.orders > 0) AS net
    FROM customers FINAL
    WHERE {shop:String} = '' OR shop_id = {shop:String}
    GROUP BY stage, of_currency
) AS c
GROUP BY stage
ORDER BY indexOf(['prospect', 'new', 'active', 'lapsing', 'lapsed', 'won_back'], stage)
