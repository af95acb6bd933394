-- Where each shop's buyers, and (shop_id '') those of all shops, are cut into fifths.
-- Grain: one shop, measure (recency, frequency, monetary) and currency, '' where it has none or names none.
-- points: the smallest values that at least 20, 40, 60 and 80 percent of the buyers do not exceed; money is in
-- ten-thousandths.
--
-- {as_of}: the day that recency is counted to.
SELECT
    shop_id, measure, currency, buyers,
    arrayMap(fifth -> sorted[intDiv(buyers * fifth + 4, 5)], [1, 2, 3, 4]) AS points
FROM
(
    SELECT shop_id, measure, currency, count() AS buyers, arraySort(groupArray(value)) AS sorted
    FROM
    (
        SELECT shop_id, cut.1 AS measure, cut.2 AS currency, cut.3 AS value
        FROM
        (
            SELECT
                shop_id,
                [
                    ('recency', '', toInt64(dateDiff('day', assumeNotNull(last_order_on), {as_of:Date32}))),
                    ('frequency', '', toInt64(purchase_days)),
                    -- Nine hundred trillion is more than anybody has spent, and less than Int64 holds.
                    ('monetary', ifNull(currency, ''), toInt64(least(monetary, 900000000000000) * 10000))
                ] AS cuts
            FROM customers FINAL
            WHERE purchase_days > 0 AND NOT is_deleted
        )
        ARRAY JOIN cuts AS cut
    )
    GROUP BY GROUPING SETS ((shop_id, measure, currency), (measure, currency))
)
ORDER BY shop_id, measure, currency
