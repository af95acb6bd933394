-- Question: of those who looked at a shop's items, who bought what in their place, and who bought nothing?
-- Parameters: shop, one shop, or all if empty; category, one category, or all if empty; item, one item, or all if
--   empty; since and until, the first and the last day, of the shop's calendar; by_item and by_day, whether each item,
--   and each day, has rows of its own; limit, the rows at most of a shop.
-- Grain: one shop and category, and one item if by_item, and one day if by_day; where not told apart these are null.
--   Those with the most lost come first. visitors are counted by item and day, so that one who looks at two items, or
--   on two days, counts twice, and has two outcomes; the five buckets add up to them. Bots stand in the last column
--   alone.
SELECT
    i.shop_id AS shop_id,
    i.category AS category,
    if({by_item:Bool}, toNullable(i.item_id), NULL) AS item_id,
    if({by_day:Bool}, toNullable(i.day), NULL) AS day,
    sum(i.visitors) AS visitors,
    sum(i.bought_item) AS bought_item,
    sum(i.bought_similar) AS bought_similar,
    sum(i.bought_other) AS bought_other,
    sum(i.bought_elsewhere) AS bought_elsewhere,
    sum(i.nothing) AS nothing,
    sum(i.favorited) AS favorited,
    sum(i.carted) AS carted,
    sum(i.lost_after_favorite) AS lost_after_favorite,
    sum(i.lost_after_cart) AS lost_after_cart,
    round(bought_item / nullIf(visitors, 0), 6) AS conversion,
    round((bought_elsewhere + nothing) / nullIf(visitors, 0), 6) AS loss_rate,
    sum(i.visitors_with_bots) - visitors AS bots
FROM item_loss AS i
WHERE i.day BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR i.shop_id = {shop:String})
    AND ({category:String} = '' OR i.category = {category:String})
    AND ({item:String} = '' OR i.item_id = {item:String})
GROUP BY shop_id, category, item_id, day
ORDER BY shop_id, bought_elsewhere + nothing DESC, visitors DESC, category NULLS LAST, item_id, day
LIMIT {limit:UInt32} BY shop_id
