-- How many buyers of each shop have the same history: all that the likelihood of a lapse model needs.
-- Grain: one shop and one (x, t_x, T): purchase days after the first; days from the first purchase day to the last;
-- days from the first to {as_of}. Who has ordered after {as_of} is in `after`: their history at that day is not known
-- from `customers`, which says how things stand.
--
-- {as_of}: the day that the model is fitted at.
SELECT
    shop_id,
    toInt32(purchase_days) - 1 AS x,
    dateDiff('day', assumeNotNull(first_order_on), assumeNotNull(last_order_on)) AS t_x,
    dateDiff('day', assumeNotNull(first_order_on), {as_of:Date32}) AS T,
    count() AS buyers,
    countIf(last_order_on > {as_of:Date32}) AS after
FROM customers FINAL
WHERE purchase_days > 0 AND NOT is_deleted
GROUP BY shop_id, x, t_x, T
ORDER BY shop_id, x, t_x, T
