-- Every order that was ever known with a moment: what its earliest placed event says, or its earliest paid one.
-- Grain: one order of one customer in one shop. Used inside of the other queries of this folder.
-- Its definitions are the stream's: an amendment counts inside the window around the moment, and late and refused
-- events are in no verdict. Beside what verification knows of orders, it tells from when on one does not stand.
--
-- {amendment_ms}, {zone}: the policy. A day is counted from 1970-01-01 in that zone; reversed_day: the day from
-- which on the order does not stand any more, null if it does to the end.
SELECT
    shop_id, customer_id, order_id,
    toInt32(toDate32(toTimeZone(fromUnixTimestamp64Milli(moment), {zone:String}))) AS day,
    if(
        reversal = 0, NULL,
        toInt32(toDate32(toTimeZone(fromUnixTimestamp64Milli(applied[reversal].1), {zone:String})))
    ) AS reversed_day,
    ifNull(first_mention.3, '') AS currency,
    first_mention.4 AS gross,
    first_mention.5 AS pieces
FROM
(
    SELECT
        shop_id, customer_id, order_id,
        argMinIf(
            (t, worth, currency, gross, pieces), (action = 'paid', t, id), action IN ('placed', 'paid')
        ) AS first_mention,
        first_mention.1 AS moment,
        arraySort(arrayFilter(
            x -> abs(x.1 - moment) <= {amendment_ms:Int64},
            groupArrayIf(
                (t, isNull(refund_amount) OR action = 'cancelled', toDecimal128(ifNull(refund_amount, 0), 4)),
                action IN ('cancelled', 'refunded')
            )
        )) AS applied,
        -- The first amendment with which nothing is left of it; 0 if there is none.
        arrayFirstIndex(
            (x, back) -> x.2 OR (first_mention.2 > 0 AND back >= first_mention.2),
            applied,
            arrayCumSum(x -> x.3, applied)
        ) AS reversal
    FROM
    (
        SELECT
            shop_id, customer_id, order_id, action, id, toInt64(toUnixTimestamp64Milli(occurred_at)) AS t,
            currency, refund_amount,
            arrayFilter(x -> isNotNull(x.price), lines) AS priced_lines,
            arraySum(x -> toDecimal128(ifNull(x.price, 0), 4) * x.quantity, priced_lines) AS gross,
            arraySum(x -> toInt64(x.quantity), priced_lines) AS pieces,
            toDecimal128(
                ifNull(total, gross - arraySum(x -> toDecimal128(ifNull(x.discount, 0), 4), priced_lines)), 4
            ) AS worth
        FROM events FINAL
        WHERE topic = 'orders'
            AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM late_events)
            AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letters)
    )
    GROUP BY shop_id, customer_id, order_id
    HAVING countIf(action IN ('placed', 'paid')) > 0
)
