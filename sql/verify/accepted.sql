-- Of several events with one id the first to arrive stands (FINAL). Those that came behind the horizon, and those
-- beyond a customer's bound, are in no verdict. {everywhere}: also of shops whose calendar is in another zone.
accepted AS
(
    SELECT
        customer_id, shop_id, partition, topic, action, id, toUnixTimestamp64Milli(occurred_at) AS t,
        target, item_id, category, quantity, price, currency, order_id, total, refund_amount, lines,
        channel, campaign, user_agent, is_bot, rating, reply_ms
    FROM events FINAL
    WHERE
        /* slice.sql */
        AND ({everywhere:UInt8} OR
        /* here.sql */
        )
        AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM late_events)
        AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letters)
),
-- Amendments and feedback are no activity. Silence of more than the gap opens the next session, exactly the gap does
-- not.
activity AS
(
    SELECT *, sum(opens) OVER (
        PARTITION BY customer_id, shop_id ORDER BY t, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS n
    FROM
    (
        SELECT *, t - lagInFrame(t, 1, 0) OVER (
            PARTITION BY customer_id, shop_id ORDER BY t, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) > {gap_ms:Int64} AS opens
        FROM accepted
        WHERE topic NOT IN ('feedback', 'identities') AND action NOT IN ('cancelled', 'refunded')
    )
)
