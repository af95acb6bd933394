-- Question: who is in a segment, and since when?
-- Parameters: shop, one shop, or all if empty; segment, which.
-- Grain: one customer in one shop, the latest to enter first; 200 at most. Their figures are those of their profile.
WITH
-- One value, so that it is looked for once, though it is asked twice.
(
    SELECT groupArray((shop_id, customer_id, at, cause))
    FROM
    (
        -- As the view segment_members has it; what the key says comes before FINAL, which then merges less.
        SELECT shop_id, customer_id, at, cause
        FROM segments FINAL
        PREWHERE segment = {segment:String} AND ({shop:String} = '' OR shop_id = {shop:String})
        WHERE is_member
        ORDER BY at DESC, shop_id, customer_id
        LIMIT 200
    )
) AS latest
SELECT
    m.customer_id AS customer_id,
    m.shop_id AS shop_id,
    toDateTime(m.since, 'UTC') AS since,
    m.cause AS cause,
    c.stage AS stage,
    c.orders AS orders,
    c.monetary AS monetary,
    c.currency AS currency
FROM
(
    SELECT each.1 AS shop_id, each.2 AS customer_id, each.3 AS since, each.4 AS cause
    FROM (SELECT arrayJoin(latest) AS each)
) AS m
LEFT JOIN
(
    SELECT shop_id, customer_id, stage, orders, monetary, currency
    FROM customers FINAL
    -- The id alone is looked up faster than the pair, and leaves hardly any other.
    PREWHERE customer_id IN (SELECT each.2 FROM (SELECT arrayJoin(latest) AS each))
    WHERE (shop_id, customer_id) IN (SELECT each.1, each.2 FROM (SELECT arrayJoin(latest) AS each))
) AS c ON c.shop_id = m.shop_id AND c.customer_id = m.customer_id
ORDER BY since DESC, shop_id, customer_id
