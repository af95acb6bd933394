-- The items that customers looked at in the shops that are here, by local day, in sessions that have closed.
/* touched.sql */,
seen AS
(
    SELECT *
    FROM
    (
        SELECT
            customer_id, shop_id, day, item_id,
            any(its_partition) AS item_partition,
            countIf(kind = 0) AS looks,
            minIf(t, kind = 0) AS first_at,
            maxIf(t, kind = 0) AS last_at,
            max(kind = 1) AS was_favorited,
            max(kind = 2) AS was_carted,
            argMinIf(category, (t, category), category != '') AS its_category,
            groupArrayIf((t, assumeNotNull(price), currency), isNotNull(price)) AS prices,
            max(max(is_bots)) OVER (PARTITION BY customer_id, shop_id, day) AS is_bot
        FROM touched
        WHERE is_closed
        GROUP BY customer_id, shop_id, day, item_id
    )
    WHERE looks > 0
)
