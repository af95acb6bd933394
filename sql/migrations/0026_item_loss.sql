-- Grain: one item of a shop and day of its calendar: how many looked at it, and what they bought in its place. Plain
--   columns leave bots out; *_with_bots have them in.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over item_days FINAL. Each visitor is in one bucket of the five, so that bought_item + bought_similar +
--   bought_other + bought_elsewhere + nothing = visitors. lost are the last two: who bought nothing here that day. Of
--   these lost_after_cart had put the item in the cart that day and lost_after_favorite among the favorites; who did
--   both is in both. conversion is bought_item, and loss_rate lost, to visitors. category: where a day names several,
--   the first by name.
CREATE OR REPLACE VIEW item_loss AS
SELECT
    d.shop_id AS shop_id,
    d.item_id AS item_id,
    d.day AS day,
    min(d.category) AS category,
    countIf(NOT d.is_bot) AS visitors,
    countIf(d.disposition = 'bought_item' AND NOT d.is_bot) AS bought_item,
    countIf(d.disposition = 'bought_similar' AND NOT d.is_bot) AS bought_similar,
    countIf(d.disposition = 'bought_other' AND NOT d.is_bot) AS bought_other,
    countIf(d.disposition = 'bought_elsewhere' AND NOT d.is_bot) AS bought_elsewhere,
    countIf(d.disposition = 'nothing' AND NOT d.is_bot) AS nothing,
    bought_elsewhere + nothing AS lost,
    sumIf(d.visits, NOT d.is_bot) AS looks,
    countIf(d.favorited AND NOT d.is_bot) AS favorited,
    countIf(d.carted AND NOT d.is_bot) AS carted,
    countIf(d.favorited AND d.disposition IN ('bought_elsewhere', 'nothing') AND NOT d.is_bot) AS lost_after_favorite,
    countIf(d.carted AND d.disposition IN ('bought_elsewhere', 'nothing') AND NOT d.is_bot) AS lost_after_cart,
    bought_item / nullIf(visitors, 0) AS conversion,
    lost / nullIf(visitors, 0) AS loss_rate,
    count() AS visitors_with_bots,
    countIf(d.disposition = 'bought_item') AS bought_item_with_bots,
    countIf(d.disposition = 'bought_similar') AS bought_similar_with_bots,
    countIf(d.disposition = 'bought_other') AS bought_other_with_bots,
    countIf(d.disposition = 'bought_elsewhere') AS bought_elsewhere_with_bots,
    countIf(d.disposition = 'nothing') AS nothing_with_bots,
    bought_elsewhere_with_bots + nothing_with_bots AS lost_with_bots,
    sum(d.visits) AS looks_with_bots,
    countIf(d.favorited) AS favorited_with_bots,
    countIf(d.carted) AS carted_with_bots,
    countIf(d.favorited AND d.disposition IN ('bought_elsewhere', 'nothing')) AS lost_after_favorite_with_bots,
    countIf(d.carted AND d.disposition IN ('bought_elsewhere', 'nothing')) AS lost_after_cart_with_bots,
    bought_item_with_bots / visitors_with_bots AS conversion_with_bots,
    lost_with_bots / visitors_with_bots AS loss_rate_with_bots
FROM item_days AS d FINAL
GROUP BY shop_id, item_id, day;
