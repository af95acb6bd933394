-- What the purchases must be: computed from the raw events in one batch, by the definitions. Shares no code with the
-- stream. One row an order that was placed or paid, in the columns of `purchases`.
--
-- {amendment_ms}: the policy; {zone}: of the shops' calendar. The others are those of the parts.
WITH
/* accepted.sql */,
/* orders.sql */,
/* purchased.sql */
SELECT
    shop_id,
    customer_id,
    order_id,
    moment AS ordered_at,
    toDate32(fromUnixTimestamp64Milli(moment, {zone:String})) AS day,
    worth AS total,
    gone AS refunded,
    is_reversed,
    order_currency AS currency,
    arrayMap(
        (x, gross, discount, net) -> (x.item_id, nullIf(x.category, ''), x.quantity, gross, discount, net),
        its_lines, grosses, discounts, nets
    ) AS lines,
    weight AS version,
    its_partition AS partition
FROM purchased
