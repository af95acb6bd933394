-- Where each shop's buyers, and (shop_id '') those of all shops, are cut into fifths by the mean price of a piece.
-- Grain: one shop and currency; a buyer counts in the currency of most of their standing orders, with the orders that
-- name none. points: as in cuts.sql, in ten-thousandths.
--
-- {cut}: the day at whose end it is; {amendment_ms}, {zone}: the policy.
SELECT
    shop_id, 'unit_price' AS measure, main AS currency, buyers,
    arrayMap(fifth -> sorted[intDiv(buyers * fifth + 4, 5)], [1, 2, 3, 4]) AS points
FROM
(
    SELECT shop_id, main, count() AS buyers, arraySort(groupArray(value)) AS sorted
    FROM
    (
        SELECT
            shop_id, main,
            toInt64(least(intDiv(total_gross * 10000, total_pieces), 9000000000000000000)) AS value
        FROM
        (
            SELECT
                shop_id, customer_id,
                arraySort(x -> (-x.2, x.1), groupArrayIf((currency, orders, gross, pieces), currency != '')) AS named,
                if(empty(named), '', named[1].1) AS main,
                sumIf(gross, currency = '') + if(empty(named), 0, named[1].3) AS total_gross,
                sumIf(pieces, currency = '') + if(empty(named), 0, named[1].4) AS total_pieces
            FROM
            (
                SELECT
                    shop_id, customer_id, currency, count() AS orders, sum(gross) AS gross, sum(pieces) AS pieces
                FROM
                (
                    /* standing_orders.sql */
                )
                WHERE day <= {cut:Int32} AND (isNull(reversed_day) OR reversed_day > {cut:Int32})
                GROUP BY shop_id, customer_id, currency
            )
            GROUP BY shop_id, customer_id
            HAVING total_gross > 0 AND total_pieces > 0
        )
    )
    GROUP BY GROUPING SETS ((shop_id, main), (main))
)
ORDER BY shop_id, currency
SETTINGS max_bytes_before_external_group_by = 1000000000
