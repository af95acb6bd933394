-- What became of the items that were looked at: computed from the raw events in one batch, by the definitions. Shares
-- no code with the stream. One row an item of a customer's day in a shop, in the columns of `item_days`.
--
-- {leak_days}: how many days after the day an order elsewhere is still in its place. The other parameters are those
-- of the parts; {everywhere} must be set.
--
-- Left out: `version`, which counts tellings and so depends on where batches end.
WITH
/* accepted.sql */,
/* orders.sql */,
/* purchased.sql */,
/* sold.sql */,
/* seen.sql */,
bought_here AS
(
    SELECT
        buyer, at_shop, sold_on,
        groupUniqArrayArray(arrayMap(x -> x.item_id, its_lines)) AS its_items,
        groupUniqArrayArray(categories) AS its_categories
    FROM sold
    GROUP BY buyer, at_shop, sold_on
),
bought_of AS
(
    SELECT buyer, name, groupArray((at_shop, moment, sold_on)) AS its_orders
    FROM sold
    ARRAY JOIN arrayDistinct(categories) AS name
    WHERE name != ''
    GROUP BY buyer, name
)
SELECT
    shop_id,
    toDate32(s.day) AS day,
    item_id,
    customer_id,
    nullIf(its_category, '') AS category,
    multiIf(
        has(its_items, item_id), 'bought_item',
        its_category != '' AND has(its_categories, its_category), 'bought_similar',
        h.buyer != '', 'bought_other',
        arrayExists(
            o -> o.1 != shop_id AND o.2 >= first_at AND o.3 <= s.day + {leak_days:Int32}, its_orders
        ), 'bought_elsewhere',
        'nothing'
    ) AS disposition,
    first_at,
    looks AS visits,
    was_favorited AS favorited,
    was_carted AS carted,
    is_bot,
    item_partition AS partition
FROM seen AS s
LEFT JOIN bought_here AS h ON h.buyer = customer_id AND at_shop = shop_id AND sold_on = s.day
LEFT JOIN bought_of AS b ON b.buyer = customer_id AND name = its_category
