-- What customers touched in the shops that are here, each touch with its local day: kind 0 looked at, 1 put among the
-- favorites, 2 put in the cart. With its session: whether it has closed, and had the signs of a machine.
/* watermarks.sql */,
touched AS
(
    SELECT
        customer_id, shop_id, its_partition, is_closed, is_bots,
        touch.1 AS t, touch.2 AS kind, touch.3 AS item_id, touch.4 AS category, touch.5 AS price, touch.6 AS currency,
        toInt32(toDate32(fromUnixTimestamp64Milli(t, {zone:String}))) AS day
    FROM
    (
        SELECT
            customer_id, shop_id, s.its_partition AS its_partition, touches,
            end_ms + {gap_ms:Int64} < if({watermark_ms:Int64} < 0, told_ms, {watermark_ms:Int64}) AS is_closed,
            isNotNull(
                /* bot_by.sql */
            ) AS is_bots
        FROM
        (
            SELECT
                customer_id, shop_id, n,
                any(partition) AS its_partition,
                min(t) AS start_ms,
                max(t) AS end_ms,
                countIf(topic = 'visits') AS visits,
                max(is_bot) AS any_bot,
                max(ifNull(cityHash64(user_agent) IN {bot_agents:Array(UInt64)}, 0)) AS any_agent,
                groupArrayIf(
                    (
                        toInt64(t), multiIf(topic = 'visits', 0, topic = 'favorites', 1, 2), ifNull(item_id, ''),
                        ifNull(toString(category), ''), price, ifNull(toString(currency), '')
                    ),
                    isNotNull(item_id) AND multiIf(
                        topic = 'visits', 1,
                        topic = 'favorites', action = 'add' AND ifNull(target = 'item', 0),
                        topic = 'carts' AND action IN ('add', 'set') AND ifNull(quantity > 0, 0)
                    )
                ) AS touches
            FROM activity
            WHERE
                /* here.sql */
            GROUP BY customer_id, shop_id, n
            HAVING notEmpty(touches)
        ) AS s
        LEFT JOIN watermarks AS w ON w.partition = s.its_partition
    )
    ARRAY JOIN touches AS touch
)
