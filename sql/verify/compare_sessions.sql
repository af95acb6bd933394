-- What the stream said of sessions against what it must say, column by column, for the customers of one slice: one
-- row.
--
-- `expected` is sessions.sql, put in its place by the caller. {watermark_ms}: judge the sessions that had closed by
-- then; below 0: by each partition's own watermark. The other parameters are those of sessions.sql.
WITH
expected AS
(
/* sessions.sql */
),
published AS
(
    SELECT
        session_id, shop_id, customer_id, toUnixTimestamp64Milli(started_at) AS started_at,
        toUnixTimestamp64Milli(ended_at) AS ended_at, outcome, lost_stage, events, visits, favorites, carts, cart_value,
        currency, mixed_currency, orders, revenue, recovered, toUnixTimestamp64Milli(recovered_at) AS recovered_at,
        recovered_by, landing_item, channel, campaign, is_bot, day, bot_by, version, partition
    FROM sessions FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
/* watermarks.sql */,
told AS
(
    SELECT
        is_expected, customer_id, shop_id,
        concat(' from ', toString(started_at)) AS which,
        ended_at + {gap_ms:Int64} >= if({watermark_ms:Int64} < 0, told_ms, {watermark_ms:Int64}) AS is_open,
        [
            ('session_id', toString(session_id)),
            ('ended_at', toString(ended_at)),
            ('outcome', toString(outcome)),
            ('lost_stage', ifNull(toString(lost_stage), 'null')),
            ('events', toString(events)),
            ('visits', toString(visits)),
            ('favorites', toString(favorites)),
            ('carts', toString(carts)),
            ('cart_value', toString(cart_value)),
            ('currency', ifNull(toString(currency), 'null')),
            ('mixed_currency', toString(toUInt8(mixed_currency))),
            ('orders', toString(orders)),
            ('revenue', toString(revenue)),
            ('recovered', toString(toUInt8(recovered))),
            ('recovered_at', ifNull(toString(recovered_at), 'null')),
            ('recovered_by', ifNull(toString(recovered_by), 'null')),
            ('landing_item', ifNull(toString(landing_item), 'null')),
            ('channel', ifNull(toString(channel), 'null')),
            ('campaign', ifNull(toString(campaign), 'null')),
            ('is_bot', toString(toUInt8(is_bot))),
            ('day', toString(day)),
            ('bot_by', ifNull(toString(bot_by), 'null')),
            ('version', toString(version)),
            ('partition', toString(partition))
        ] AS cells
    FROM
    (
        SELECT 1 AS is_expected, * FROM expected
        UNION ALL
        SELECT 0 AS is_expected, * FROM published
    ) AS t
    LEFT JOIN watermarks AS w ON w.partition = t.partition
),
/* pairs.sql */
