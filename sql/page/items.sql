-- Question: of those who looked at an item, who bought what in its place, and who bought nothing?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day, of the shop's calendar.
-- Grain: one item of a shop, those with the most lost first; 100 at most. visitors are counted by day, so that one who
--   looks on two days counts twice, and has two outcomes; the five buckets add up to them. Bots are left out.
WITH
-- All is counted of these alone: of every item of all shops it would take half as long again. Here and below, what the
-- key says comes before FINAL, which then merges less.
most_lost AS
(
    SELECT d.shop_id, d.item_id
    FROM item_days AS d FINAL
    PREWHERE d.day BETWEEN {since:Date32} AND {until:Date32}
        AND ({shop:String} = '' OR d.shop_id = {shop:String})
    WHERE NOT d.is_bot
    GROUP BY d.shop_id, d.item_id
    ORDER BY
        countIf(d.disposition IN ('bought_elsewhere', 'nothing')) DESC,
        count() DESC,
        d.shop_id,
        d.item_id
    LIMIT 100
)
SELECT
    d.shop_id AS shop_id,
    d.item_id AS item_id,
    min(d.category) AS category,
    count() AS visitors,
    countIf(d.disposition = 'bought_item') AS bought_item,
    countIf(d.disposition = 'bought_similar') AS bought_similar,
    countIf(d.disposition = 'bought_other') AS bought_other,
    countIf(d.disposition = 'bought_elsewhere') AS bought_elsewhere,
    countIf(d.disposition = 'nothing') AS nothing,
    countIf(d.favorited AND d.disposition IN ('bought_elsewhere', 'nothing')) AS lost_after_favorite,
    countIf(d.carted AND d.disposition IN ('bought_elsewhere', 'nothing')) AS lost_after_cart,
    bought_item / visitors AS conversion,
    (bought_elsewhere + nothing) / visitors AS loss_rate
FROM item_days AS d FINAL
PREWHERE d.day BETWEEN {since:Date32} AND {until:Date32} AND (d.shop_id, d.item_id) IN most_lost
WHERE NOT d.is_bot
GROUP BY shop_id, item_id
ORDER BY bought_elsewhere + nothing DESC, visitors DESC, shop_id, item_id
