-- What the stream said of purchases against what it must say, column by column, for the customers of one slice: one
-- row. `expected` is purchases.sql, put in its place by the caller, with its parameters.
WITH
expected AS
(
/* purchases.sql */
),
published AS
(
    SELECT
        shop_id, customer_id, order_id, toUnixTimestamp64Milli(ordered_at) AS ordered_at, day, total, refunded,
        is_reversed, currency, lines, version, partition
    FROM purchases FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
told AS
(
    SELECT
        is_expected, customer_id, shop_id, concat(' of order ', order_id) AS which, 0 AS is_open,
        [
            ('ordered_at', toString(ordered_at)),
            ('day', toString(day)),
            ('total', toString(total)),
            ('refunded', toString(refunded)),
            ('is_reversed', toString(toUInt8(is_reversed))),
            ('currency', ifNull(toString(currency), 'null')),
            ('lines', toString(lines)),
            ('version', toString(version)),
            ('partition', toString(partition))
        ] AS cells
    FROM
    (
        SELECT 1 AS is_expected, * FROM expected
        UNION ALL
        SELECT 0 AS is_expected, * FROM published
    ) AS t
),
/* pairs.sql */
