-- Question: which of a shop's items lost orders to which items of which shops, and for how much?
-- Parameters: shop, the shop that lost them, or all if empty; item, one item that was looked at, or all if empty; since
--   and until, the first and the last day, of the shop's calendar; limit, the rows at most of a shop.
-- Grain: one item that was looked at in one shop and one item that was bought elsewhere, the most buyers first. Exact,
--   and of single buyers too: for the operator of the marketplace alone; `leak_destinations` is what a seller may see.
--
-- after_cart and after_favorite count orders by the deepest intent for any item looked at. order_amount maps currency
-- ('' where none is named) to what leaked with these orders as wholes: one of two items is in the rows of both.
WITH
flows AS
(
    SELECT shop_id, customer_id, item_id, to_shop_id, to_item_id, order_id, intent, amount, currency
    FROM leaks FINAL
    ARRAY JOIN item_ids AS item_id
    ARRAY JOIN to_item_ids AS to_item_id
    WHERE NOT is_bot
        AND day BETWEEN {since:Date32} AND {until:Date32}
        AND ({shop:String} = '' OR shop_id = {shop:String})
        AND ({item:String} = '' OR item_id = {item:String})
)
SELECT
    f.shop_id AS shop_id,
    f.item_id AS item_id,
    f.to_shop_id AS to_shop_id,
    f.to_item_id AS to_item_id,
    uniqExact(f.customer_id) AS buyers,
    count() AS orders,
    countIf(f.intent = 'cart') AS after_cart,
    countIf(f.intent = 'favorite') AS after_favorite,
    sumMap(map(ifNull(f.currency, ''), f.amount)) AS order_amount
FROM flows AS f
GROUP BY shop_id, item_id, to_shop_id, to_item_id
ORDER BY shop_id, buyers DESC, orders DESC, item_id, to_shop_id, to_item_id
LIMIT {limit:UInt32} BY shop_id
