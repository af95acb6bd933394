-- Grain: one shop and stage: who stands there now, and what they are worth.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over customers FINAL. monetary maps currency to amount, because amounts of different currencies are
--   never added. What depends on a day or a calendar is a question of `sql/queries` instead, with parameters.
CREATE VIEW IF NOT EXISTS lifecycle_by_shop AS
SELECT
    c.shop_id AS shop_id,
    c.stage AS stage,
    count() AS customers,
    sum(c.orders) AS orders,
    sumMapIf(map(ifNull(c.currency, ''), c.monetary), c.orders > 0) AS monetary,
    max(c.last_order_at) AS last_order_at
FROM customers AS c FINAL
GROUP BY shop_id, stage;
