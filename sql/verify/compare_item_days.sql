-- What the stream said of item-days against what it must say, column by column, for the customers of one slice: one
-- row. `expected` is item_days.sql, put in its place by the caller, with its parameters. Not judged: days that a
-- session which has not closed lies in.
WITH
expected AS
(
/* item_days.sql */
),
published AS
(
    SELECT
        shop_id, day, item_id, customer_id, category, disposition, toUnixTimestamp64Milli(first_at) AS first_at,
        visits, favorited, carted, is_bot, partition
    FROM item_days FINAL
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
        concat(' of item ', item_id, ' on ', toString(day)) AS which,
        has(its_days, toInt32(day)) AS is_open,
        [
            ('category', ifNull(toString(category), 'null')),
            ('disposition', toString(disposition)),
            ('first_at', toString(first_at)),
            ('visits', toString(visits)),
            ('favorited', toString(toUInt8(favorited))),
            ('carted', toString(toUInt8(carted))),
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
