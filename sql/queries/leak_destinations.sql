-- Question: in which shops did the lost buy what they had looked at here, and which items?
-- Parameters: shop, one shop, or all if empty; weeks_since, the day from which weeks begin; limit, the rows at most of
--   a shop and week.
-- Grain: one shop, week of its calendar, kind of order (the categories in it that had been looked at), and shop that
--   visitors bought in (to_item_id null) or item there. It is what a seller may see: nothing is about fewer than five
--   buyers, and nothing about fewer follows. A week is told 40 days after its end, and counts are rounded down to
--   fives; the migration of the view of that name says why.
SELECT
    d.shop_id AS shop_id,
    d.week AS week,
    d.categories AS categories,
    d.to_shop_id AS to_shop_id,
    d.to_item_id AS to_item_id,
    d.buyers_at_least AS buyers_at_least
FROM leak_destinations AS d
WHERE d.week >= {weeks_since:Date32} AND ({shop:String} = '' OR d.shop_id = {shop:String})
ORDER BY shop_id, week, isNotNull(to_item_id), buyers_at_least DESC, categories, to_shop_id, to_item_id
LIMIT {limit:UInt32} BY shop_id, week
