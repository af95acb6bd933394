-- What the stream said of leaks against what it must say, column by column, for the customers of one slice: one row.
-- `expected` is leaks.sql, put in its place by the caller, with its parameters. Not judged: leaks from shops where a
-- session which has not closed lies in a day that the order may leak from.
WITH
expected AS
(
/* leaks.sql */
),
published AS
(
    SELECT
        leak_id, shop_id, customer_id, day, toUnixTimestamp64Milli(seen_at) AS seen_at, item_ids, categories, intent,
        to_shop_id, order_id, toUnixTimestamp64Milli(ordered_at) AS ordered_at, to_item_ids, pieces, amount, currency,
        price_here, price_there, is_bot, partition
    FROM leaks FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
/* accepted.sql */,
/* touched.sql */,
/* open_days.sql */,
told AS
(
    SELECT
        is_expected, customer_id, shop_id,
        concat(' to ', to_shop_id, ' by order ', order_id) AS which,
        toInt32(toDate32(fromUnixTimestamp64Milli(ordered_at, {zone:String}))) AS ordered_on,
        arrayExists(d -> d BETWEEN ordered_on - {leak_days:Int32} AND ordered_on, its_days) AS is_open,
        [
            ('leak_id', toString(leak_id)),
            ('day', toString(day)),
            ('seen_at', toString(seen_at)),
            ('item_ids', toString(item_ids)),
            ('categories', toString(categories)),
            ('intent', ifNull(toString(intent), 'null')),
            ('ordered_at', toString(ordered_at)),
            ('to_item_ids', toString(to_item_ids)),
            ('pieces', toString(pieces)),
            ('amount', toString(amount)),
            ('currency', ifNull(toString(currency), 'null')),
            ('price_here', ifNull(toString(price_here), 'null')),
            ('price_there', ifNull(toString(price_there), 'null')),
            ('is_bot', toString(toUInt8(is_bot))),
            ('partition', toString(partition))
        ] AS cells
    FROM
    (
        SELECT 1 AS is_expected, * FROM expected
        UNION ALL
        SELECT 0 AS is_expected, * FROM published
    ) AS t
    LEFT JOIN open_days AS d ON open_customer = customer_id AND open_shop = shop_id
),
/* pairs.sql */
