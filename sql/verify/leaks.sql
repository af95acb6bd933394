-- Where the lost went: computed from the raw events in one batch, by the definitions. Shares no code with the stream.
-- One row an order and a shop it leaked from, in the columns of `leaks`.
--
-- The parameters are those of item_days.sql. Left out: `version`, which counts tellings and so depends on where
-- batches end.
WITH
/* accepted.sql */,
/* orders.sql */,
/* purchased.sql */,
/* sold.sql */,
/* seen.sql */,
-- What each order has of each category.
offered AS
(
    SELECT
        buyer, at_shop, order_id, name,
        any(moment) AS ordered_at,
        any(sold_on) AS ordered_on,
        any(order_currency) AS paid_in,
        groupUniqArray(x.item_id) AS its_items,
        sum(toUInt64(x.quantity)) AS its_pieces,
        sum(net) AS its_amount,
        sumIf(gross - discount, isNotNull(x.price)) AS its_worth,
        sumIf(toUInt64(x.quantity), isNotNull(x.price)) AS its_priced_pieces
    FROM sold
    ARRAY JOIN its_lines AS x, categories AS name, grosses AS gross, discounts AS discount, nets AS net
    WHERE name != ''
    GROUP BY buyer, at_shop, order_id, name
),
-- What was looked at here before it was bought elsewhere, on days when nothing was bought here.
matching AS
(
    SELECT
        customer_id, shop_id, day, item_id, item_partition, its_category,
        was_favorited, was_carted, is_bot, at_shop, order_id, ordered_at, paid_in,
        if(last_at <= ordered_at, last_at, first_at) AS seen_ms,
        arrayFilter(p -> p.3 = '' OR isNull(paid_in) OR p.3 = assumeNotNull(paid_in), prices) AS comparable,
        if(empty(comparable), NULL, arrayMax(arrayMap(p -> (p.1, p.2), comparable)).2) AS its_price,
        (its_category, its_items, its_pieces, its_amount, its_worth, its_priced_pieces) AS its_part
    FROM seen AS s
    INNER JOIN offered AS o ON buyer = customer_id AND name = its_category
    WHERE at_shop != shop_id AND first_at <= ordered_at
        AND ordered_on BETWEEN day AND day + {leak_days:Int32}
        AND (customer_id, shop_id, day) NOT IN (SELECT buyer, at_shop, sold_on FROM sold)
),
leaked AS
(
    SELECT
        customer_id, shop_id, at_shop, order_id, day,
        any(item_partition) AS its_partition,
        any(ordered_at) AS ordered_ms,
        any(paid_in) AS currency,
        any(is_bot) AS any_bot,
        max(seen_ms) AS seen_at,
        arraySort(groupUniqArray(item_id)) AS item_ids,
        max(was_carted) AS any_carted,
        max(was_favorited) AS any_favorited,
        min(its_price) AS price_here,
        groupUniqArray(its_part) AS parts
    FROM matching
    GROUP BY customer_id, shop_id, at_shop, order_id, day
    -- An order leaks once from a shop: from the latest day.
    ORDER BY day DESC
    LIMIT 1 BY customer_id, shop_id, at_shop, order_id
)
SELECT
    -- hex leaves leading zeros out.
    leftPad(
        lower(hex(xxh3_128(concat(customer_id, '\0', shop_id, '\0', at_shop, '\0', order_id)))), 32, '0'
    ) AS leak_id,
    shop_id,
    customer_id,
    toDate32(day) AS day,
    seen_at,
    item_ids,
    arraySort(arrayMap(p -> p.1, parts)) AS categories,
    multiIf(any_carted, 'cart', any_favorited, 'favorite', NULL) AS intent,
    at_shop AS to_shop_id,
    order_id,
    ordered_ms AS ordered_at,
    arraySort(arrayDistinct(arrayFlatten(arrayMap(p -> p.2, parts)))) AS to_item_ids,
    arraySum(p -> p.3, parts) AS pieces,
    arraySum(p -> p.4, parts) AS amount,
    currency,
    price_here,
    -- Rounded down.
    if(
        arraySum(p -> p.6, parts) = 0,
        NULL,
        toDecimal128(
            intDiv(
                toInt256(greatest(arraySum(p -> p.5, parts), toDecimal128(0, 4)) * 10000),
                toInt256(greatest(arraySum(p -> p.6, parts), 1))
            ), 4
        ) / 10000
    ) AS price_there,
    any_bot AS is_bot,
    its_partition AS partition
FROM leaked
