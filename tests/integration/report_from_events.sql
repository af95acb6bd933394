-- What a shop's report must say, from the raw events alone: its orders, its sessions, and then all figures of one span
-- of days. For events as the real data sets have them: nothing taken out of carts or favorites, one currency or none,
-- no sign of a bot but what looks tell. Shares no code, and no table, with what is tested.
CREATE OR REPLACE TABLE report_orders ENGINE = Memory AS
WITH
told AS
(
    SELECT
        customer_id, topic, toString(action) AS what, toUnixTimestamp64Milli(occurred_at) AS t, id, order_id,
        refund_amount, price, quantity,
        if(
            isNotNull(total),
            toDecimal128(ifNull(total, 0), 4),
            arraySum(
                l -> if(
                    isNull(l.price),
                    toDecimal128(0, 4),
                    toDecimal128(ifNull(l.price, 0), 4) * l.quantity - toDecimal128(ifNull(l.discount, 0), 4)
                ),
                lines
            )
        ) AS worth
    FROM events FINAL
    WHERE shop_id = {shop:String} AND NOT ({guests:String} != '' AND startsWith(customer_id, {guests:String}))
)
SELECT
    m.customer_id AS customer_id,
    m.order_id AS order_id,
    m.moment AS moment,
    m.amount AS amount,
    toDate32(toTimeZone(fromUnixTimestamp64Milli(m.moment, 'UTC'), {zone:String})) AS day,
    countIf(a.what = 'cancelled' OR (a.what = 'refunded' AND isNull(a.refund_amount))) > 0 AS is_undone,
    sumIf(toDecimal128(ifNull(a.refund_amount, 0), 4), a.what = 'refunded') AS given_back,
    is_undone OR (m.amount > 0 AND given_back >= m.amount) AS is_reversed,
    if(is_reversed OR given_back > m.amount, m.amount, given_back) AS refunded
FROM
(
    SELECT
        customer_id, ifNull(order_id, '') AS order_id,
        argMin(t, (what = 'paid', t, id)) AS moment,
        argMin(worth, (what = 'paid', t, id)) AS amount
    FROM told
    WHERE what IN ('placed', 'paid')
    GROUP BY customer_id, order_id
) AS m
LEFT JOIN
(
    SELECT customer_id, ifNull(order_id, '') AS order_id, what, t, refund_amount
    FROM told
    WHERE what IN ('cancelled', 'refunded')
) AS a
    ON a.customer_id = m.customer_id AND a.order_id = m.order_id
    AND a.t BETWEEN m.moment - {amendment_ms:Int64} AND m.moment + {amendment_ms:Int64}
GROUP BY m.customer_id, m.order_id, m.moment, m.amount;

CREATE OR REPLACE TABLE report_stays ENGINE = Memory AS
WITH
told AS
(
    SELECT
        customer_id, topic, toString(action) AS what, toUnixTimestamp64Milli(occurred_at) AS t, id, order_id,
        refund_amount, price, quantity,
        if(
            isNotNull(total),
            toDecimal128(ifNull(total, 0), 4),
            arraySum(
                l -> if(
                    isNull(l.price),
                    toDecimal128(0, 4),
                    toDecimal128(ifNull(l.price, 0), 4) * l.quantity - toDecimal128(ifNull(l.discount, 0), 4)
                ),
                lines
            )
        ) AS worth
    FROM events FINAL
    WHERE shop_id = {shop:String} AND NOT ({guests:String} != '' AND startsWith(customer_id, {guests:String}))
),
numbered AS
(
    SELECT *, countIf(is_first) OVER (
        PARTITION BY customer_id ORDER BY t, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS n
    FROM
    (
        SELECT *, t - lagInFrame(t, 1, 0) OVER (
            PARTITION BY customer_id ORDER BY t, id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
        ) > {gap_ms:Int64} AS is_first
        FROM told
        WHERE what NOT IN ('cancelled', 'refunded')
    )
),
spans AS
(
    SELECT
        customer_id, n,
        min(t) AS began,
        max(t) AS ended,
        count() AS activity,
        countIf(topic = 'visits') AS looks,
        countIf(topic = 'favorites') AS favorites,
        countIf(topic = 'carts') AS carts,
        sumIf(toDecimal128(ifNull(price, 0), 4) * ifNull(quantity, 1), topic = 'carts') AS in_cart
    FROM numbered
    GROUP BY customer_id, n
)
SELECT
    s.customer_id AS customer_id, s.n AS n, s.activity AS activity, s.looks AS looks,
    s.favorites AS favorites, s.carts AS carts, s.in_cart AS in_cart,
    toDate32(toTimeZone(fromUnixTimestamp64Milli(s.began, 'UTC'), {zone:String})) AS day,
    countIf(o.order_id != '' AND NOT o.is_reversed AND o.moment BETWEEN s.began AND s.ended) AS standing,
    countIf(
        o.order_id != '' AND NOT o.is_reversed AND o.moment > s.ended + {gap_ms:Int64}
        AND o.moment <= s.ended + {gap_ms:Int64} + {recovery_ms:Int64}
    ) AS later,
    -- 50 looks and more under 300 ms each, or over 60 a minute for five minutes.
    s.looks >= 50 AND s.ended - s.began < 300 * (s.looks - 1)
        OR s.looks > 300 AND s.looks * 60000 > 60 * (s.ended - s.began) AS is_bot
FROM spans AS s
LEFT JOIN report_orders AS o ON o.customer_id = s.customer_id
GROUP BY
    s.customer_id, s.n, s.activity, s.looks, s.favorites, s.carts, s.in_cart, s.began, s.ended;

WITH
here AS
(
    SELECT * FROM report_stays
    WHERE day BETWEEN {since:Date32} AND {until:Date32} AND ({with_bots:Bool} OR NOT is_bot)
),
bought AS
(
    SELECT * FROM report_orders WHERE day BETWEEN {since:Date32} AND {until:Date32}
),
newcomers AS
(
    SELECT v.customer_id AS customer_id
    FROM (SELECT customer_id, min(day) AS first FROM here GROUP BY customer_id) AS v
    LEFT JOIN
    (
        SELECT DISTINCT customer_id, day FROM report_stays WHERE {with_bots:Bool} OR NOT is_bot
    ) AS w USING (customer_id)
    GROUP BY customer_id
    HAVING countIf(w.day < v.first AND dateDiff('day', w.day, v.first) <= 6) = 0
),
regulars AS
(
    SELECT v.customer_id AS customer_id
    FROM (SELECT customer_id, min(day) AS first FROM bought GROUP BY customer_id) AS v
    LEFT JOIN (SELECT DISTINCT customer_id, day FROM report_orders) AS w USING (customer_id)
    GROUP BY customer_id
    HAVING countIf(w.day < v.first AND dateDiff('day', w.day, v.first) <= 365) > 0
)
SELECT
    (SELECT uniqExact(customer_id) FROM here) AS visitors,
    (SELECT count() FROM newcomers) AS new_visitors,
    (SELECT uniqExact(customer_id) FROM here WHERE customer_id NOT IN (SELECT customer_id FROM newcomers)) AS returning,
    (SELECT sum(favorites) FROM here) AS favorites,
    (SELECT uniqExact(customer_id) FROM here WHERE favorites > 0) AS favoriting,
    (SELECT uniqExact(customer_id) FROM here WHERE carts > 0) AS carting,
    (SELECT uniqExact(customer_id) FROM here WHERE customer_id IN (SELECT customer_id FROM bought)) AS ordering,
    (SELECT uniqExact(customer_id) FROM bought) AS buyers,
    (SELECT count() FROM regulars) AS old_buyers,
    (SELECT sum(amount) FROM bought) AS paid,
    (SELECT sum(refunded) FROM bought) AS refunded,
    (SELECT count() FROM here) AS sessions,
    (SELECT countIf(standing = 0) FROM here) AS lost,
    (SELECT countIf(standing = 0 AND carts > 0) FROM here) AS carted,
    (SELECT countIf(standing = 0 AND carts = 0 AND favorites > 0) FROM here) AS favorited,
    (SELECT countIf(standing = 0 AND activity = 1 AND looks = 1) FROM here) AS bounced,
    (SELECT countIf(standing = 0 AND later > 0) FROM here) AS recovered,
    (SELECT sumIf(in_cart, standing = 0) FROM here) AS value_at_risk
