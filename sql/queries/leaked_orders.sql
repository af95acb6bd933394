-- Question: which orders elsewhere make up a shop's leaked amount?
-- Parameters: shop, the shop that lost them, or all if empty; item, only orders after a look at this item, or all if
--   empty; since and until, the first and the last day, of the shop's calendar.
-- Grain: one order that leaked from one shop. The amounts of a shop and day add up, by currency, to its leaked_amount
--   (without bots). For the operator of the marketplace alone: each row is one buyer's order in a rival's shop.
--
-- amount is what the stream says. order_net is all of the order, less refunds, and lines are those of the leak's
-- categories, as the purchase itself stands: the nets of lines add up to amount.
SELECT
    l.shop_id AS shop_id,
    l.day AS day,
    l.customer_id AS customer_id,
    l.seen_at AS seen_at,
    l.intent AS intent,
    l.item_ids AS item_ids,
    l.to_shop_id AS to_shop_id,
    l.order_id AS order_id,
    l.ordered_at AS ordered_at,
    l.pieces AS pieces,
    l.amount AS amount,
    l.currency AS currency,
    p.total - p.refunded AS order_net,
    arrayMap(
        line -> (line.item_id, line.net),
        arrayFilter(line -> has(l.categories, ifNull(line.category, '')), p.lines)
    ) AS lines
FROM leaks AS l FINAL
LEFT JOIN purchases AS p FINAL
    ON p.shop_id = l.to_shop_id AND p.customer_id = l.customer_id AND p.order_id = l.order_id
WHERE NOT l.is_bot
    AND l.day BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR l.shop_id = {shop:String})
    AND ({item:String} = '' OR has(l.item_ids, {item:String}))
ORDER BY shop_id, day, ordered_at, to_shop_id, customer_id, order_id
