-- The days of sessions that have not closed: what is said of them may still change.
open_days AS
(
    SELECT customer_id AS open_customer, shop_id AS open_shop, groupUniqArray(day) AS its_days
    FROM touched
    WHERE NOT is_closed
    GROUP BY customer_id, shop_id
)
