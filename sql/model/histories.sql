-- What was known of each shop's buyers at the end of an earlier day, and how many came back after it.
-- Grain: one shop and one (x, t_x, T), as in statistics.sql; returned: how many of these buyers have an order on one
-- of the {watched} days after {cut} that still stood when those were over. An order that was reversed after {cut} was
-- known as standing at {cut}.
--
-- {cut}: a day, counted from 1970-01-01; {amendment_ms}, {zone}: the policy.
SELECT shop_id, x, t_x, T, count() AS buyers, countIf(came) AS returned
FROM
(
    SELECT
        shop_id, customer_id,
        toInt32(uniqExactIf(day, known)) - 1 AS x,
        maxIf(day, known) - minIf(day, known) AS t_x,
        {cut:Int32} - minIf(day, known) AS T,
        max(
            day > {cut:Int32} AND day <= {cut:Int32} + {watched:Int32}
            AND (isNull(reversed_day) OR reversed_day > {cut:Int32} + {watched:Int32})
        ) AS came
    FROM
    (
        SELECT *, day <= {cut:Int32} AND (isNull(reversed_day) OR reversed_day > {cut:Int32}) AS known
        FROM
        (
            /* standing_orders.sql */
        )
    )
    GROUP BY shop_id, customer_id
    HAVING countIf(known) > 0
)
GROUP BY shop_id, x, t_x, T
ORDER BY shop_id, x, t_x, T
SETTINGS max_bytes_before_external_group_by = 1000000000
