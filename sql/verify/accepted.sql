-- Of several events with one id the first to arrive stands (FINAL). Those that came behind the horizon, and those
-- beyond a customer's bound, are in no verdict.
accepted AS
(
    SELECT
        customer_id, shop_id, partition, topic, action, id, toUnixTimestamp64Milli(occurred_at) AS t,
        target, item_id, quantity, price, currency, order_id, total, refund_amount, lines,
        channel, campaign, is_bot
    FROM events FINAL
    WHERE cityHash64(customer_id) % 8 IN {parts:Array(UInt8)}
        AND intDiv(cityHash64(customer_id), 8) % {subs:UInt32} = {sub:UInt32}
        AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM late_events)
        AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letters)
),
-- Amendments are no activity. Silence of more than the gap opens the next session, exactly the gap does not.
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
        WHERE action NOT IN ('cancelled', 'refunded')
    )
)
