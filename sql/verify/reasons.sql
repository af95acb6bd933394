-- Why sessions were lost and buyers lapsed: computed in one batch, by the definitions. Shares no code with the stream.
-- One row a loss, in the columns of `reasons`; scores are whole percents, and with the evidence lists of (name, value)
-- by name.
--
-- Orders, feedback and visits are taken from the raw events. Lost sessions, leaks and transitions are taken as they
-- were told: each is judged by itself, so that if all tables are as they must be, reasons follow from the raw events.
--
-- {grievance_ms}, {amendment_ms}, {buyer_memory_ms}, {horizon_ms}: the policy; {models}: as of buyers.sql. The others
-- are those of the parts; {everywhere} must be set.
--
-- Left out: `version`, which counts tellings and so depends on where batches end; and the lapses of a buyer who stayed
-- away for longer than buyers are remembered, or whose shop has a model of its own, under which they were told
-- (`is_left_out`).
WITH
/* accepted.sql */,
/* orders.sql */,
/* purchased.sql */,
/* sold.sql */,
-- Amounts are whole numbers of ten-thousandths, -1 where none is told; a currency that is not told is ''.
priced AS
(
    SELECT
        buyer, name, at_shop, order_id,
        any(moment) AS at,
        any(ifNull(toString(order_currency), '')) AS its_currency,
        toInt256(sumIf(toInt64(x.quantity), isNotNull(x.price))) AS pieces,
        toInt256(greatest(sumIf(gross - discount, isNotNull(x.price)), toDecimal128(0, 4)) * 10000) AS worth,
        if(pieces = 0, toInt256(-1), intDiv(worth, greatest(pieces, toInt256(1)))) AS unit_price
    FROM sold
    ARRAY JOIN its_lines AS x, categories AS name, grosses AS gross, discounts AS discount
    WHERE name != ''
    GROUP BY buyer, name, at_shop, order_id
),
-- A customer's purchases of a category, in order of time.
history AS
(
    SELECT buyer, name, arraySort(groupArray((at, at_shop, order_id, unit_price, its_currency))) AS past
    FROM priced
    GROUP BY buyer, name
),
-- What was bad, by its weight: of several at one time the lighter code counts.
grievances AS
(
    SELECT customer_id, shop_id, groupArray((toInt64(t), -code)) AS bad
    FROM
    (
        SELECT
            customer_id, shop_id, t,
            multiIf(
                topic = 'feedback' AND action = 'review' AND ifNull(rating <= 2, 0), 1,
                topic = 'feedback' AND action = 'complaint', 2,
                topic = 'orders' AND action = 'refunded', 3,
                topic = 'orders' AND action = 'cancelled', 4,
                topic = 'feedback' AND action = 'reply' AND ifNull(reply_ms > 86400000, 0), 5,
                0
            ) AS code
        FROM accepted
        WHERE topic IN ('feedback', 'orders') AND
            /* here.sql */
    )
    WHERE code > 0
    GROUP BY customer_id, shop_id
),
-- Moves: (category, shop, order, price of a piece here, there, until when what was bought says more). A lost session's
-- are the leaks seen in it.
lost AS
(
    SELECT
        'session' AS kind, toString(session_id) AS subject_id, customer_id, shop_id, partition AS its_partition,
        toUnixTimestamp64Milli(started_at) AS since, toUnixTimestamp64Milli(ended_at) AS ended_ms,
        toDate32(day) AS its_day, toUInt8(is_bot) AS by_bot,
        if(lost_stage IN ('bounced', 'browsed'), 40, 0) AS natural,
        [('stage', ifNull(toString(lost_stage), ''))] AS its_words,
        arrayMap(l -> l.2, arrayFilter(l -> l.1 BETWEEN since AND ended_ms, its_leaks)) AS its_moves
    FROM
    (
        SELECT *
        FROM sessions FINAL
        WHERE outcome = 'lost' AND
            /* slice.sql */
            AND
            /* here.sql */
    ) AS s
    LEFT JOIN
    (
        SELECT
            customer_id, shop_id,
            groupArray((toUnixTimestamp64Milli(seen_at), (
                category, to_shop_id, order_id,
                if(isNull(price_here), toInt256(-1), toInt256(ifNull(price_here, 0) * 10000)),
                if(isNull(price_there), toInt256(-1), toInt256(ifNull(price_there, 0) * 10000)),
                toUnixTimestamp64Milli(ordered_at)
            ))) AS its_leaks
        FROM leaks FINAL
        ARRAY JOIN categories AS category
        WHERE
            /* slice.sql */
            AND
            /* here.sql */
        GROUP BY customer_id, shop_id
    ) AS l USING (customer_id, shop_id)
),
occasions AS
(
    SELECT
        buyer AS customer_id, at_shop AS shop_id,
        min(moment) AS first_at,
        arraySort(groupUniqArray(sold_on)) AS its_days
    FROM sold
    GROUP BY buyer, at_shop
),
stays AS
(
    SELECT customer_id, shop_id, arraySort(groupArray((start_ms, end_ms))) AS its_stays
    FROM
    (
        SELECT customer_id, shop_id, toInt64(min(t)) AS start_ms, toInt64(max(t)) AS end_ms
        FROM activity
        WHERE
            /* here.sql */
        GROUP BY customer_id, shop_id, n
    )
    GROUP BY customer_id, shop_id
),
-- Those of a buyer who lapsed: purchases elsewhere, since the last one here, of what was bought here before.
lapsed AS
(
    SELECT
        'lapse' AS kind, subject_id, customer_id, shop_id, its_partition, at, today, is_left_out,
        greatest(anchor, seen_ms) AS left_at,
        if(
            unseen < q90, 0,
            least(64, 50 + intDiv(greatest(intDiv(100 * unseen, q90) - 100, 0), 10) + if(x = 0, 5, 0))
        ) AS forgot,
        [
            ('silence_days', toString(today - anchor_day)),
            ('unseen_days', toString(unseen)),
            ('q90_days', toString(q90)),
            ('one_time', if(x = 0, 'true', 'false'))
        ] AS its_words,
        arrayFlatten(arrayMap(
            h -> arrayMap(
                p -> (
                    h.1, p.2, p.3,
                    if(
                        h.3.1 = 0 OR (h.3.5 != '' AND p.5 != '' AND h.3.5 != p.5), toInt256(-1), h.3.4
                    ),
                    p.4, at
                ),
                h.4
            ),
            -- (category, whether it was bought here, the last time with a price, purchases elsewhere)
            arrayFilter(h -> h.2, arrayMap(
                h -> (
                    h.1,
                    arrayExists(p -> p.2 = shop_id AND p.1 <= at AND p.1 > at - 120 * 86400000, h.2),
                    arrayLast(
                        p -> p.2 = shop_id AND p.1 <= at AND p.1 > at - 120 * 86400000 AND p.4 >= 0, h.2
                    ),
                    arrayFilter(
                        p -> p.2 != shop_id AND p.1 <= at AND p.1 > greatest(anchor, at - 120 * 86400000), h.2
                    )
                ),
                its_history
            ))
        )) AS its_moves
    FROM
    (
        SELECT
            *,
            arrayMax(arrayPushFront(
                arrayMap(v -> least(v.2, at), arrayFilter(v -> v.1 <= at, its_stays)), toInt64(0)
            )) AS seen_ms,
            today - toInt32(toDate32(fromUnixTimestamp64Milli(greatest(anchor, seen_ms), {zone:String}))) AS unseen,
            arrayFirst(m -> m.1 = shop_id OR m.1 = '', {models:Array(Tuple(
                String, UInt64, String, Float64, Float64, Float64, Float64, Float64, UInt8
            ))}) AS model,
            model.2 > 0 OR model_version > 0 OR arrayExists(
                (v, next) -> next.1 > v.2 + {buyer_memory_ms:Int64} - {horizon_ms:Int64} AND first_at <= v.2,
                arrayPopBack(its_stays),
                arrayPopFront(its_stays)
            ) AS is_left_out,
            arrayCount(d -> d < anchor_day, its_days) AS x,
            model.4 + x AS shape,
            model.5 + anchor_day - its_days[1] AS scale,
            -- e^y - 1 is 2 e^(y/2) sinh(y/2), which keeps its digits where y is small; give or take an ulp.
            log(10) / shape / 2 AS half_of_most,
            least(scale * 2 * exp(half_of_most) * sinh(half_of_most), 36500) AS gap_of_most,
            greatest(toInt64(floor(gap_of_most + 1e-9)), 1) AS q90
        FROM
        (
            SELECT
                toString(transition_id) AS subject_id, customer_id, shop_id, partition AS its_partition, model_version,
                toUnixTimestamp64Milli(t.anchor) AS anchor,
                toUnixTimestamp64Milli(t.at) AS at,
                toInt32(toDate32(fromUnixTimestamp64Milli(anchor, {zone:String}))) AS anchor_day,
                toInt32(toDate32(fromUnixTimestamp64Milli(at, {zone:String}))) AS today
            FROM transitions AS t FINAL
            WHERE kind = 'stage' AND to_state IN ('lapsing', 'lapsed') AND
                /* slice.sql */
                AND
                /* here.sql */
        ) AS t
        LEFT JOIN occasions USING (customer_id, shop_id)
        LEFT JOIN stays USING (customer_id, shop_id)
    ) AS l
    LEFT JOIN
    (
        SELECT buyer, groupArray((name, past)) AS its_history FROM history GROUP BY buyer
    ) AS h ON h.buyer = customer_id
),
compared AS
(
    SELECT
        *,
        arrayFilter(c -> c.1.4 >= 0 AND c.2.4 >= 0 AND c.1.5 = c.2.5, its_changes) AS comparable,
        length(comparable) AS comparisons,
        arrayCount(c -> c.1.4 > 0 AND 100 * (c.1.4 - c.2.4) >= 3 * c.1.4, comparable) AS cheaper,
        length(arrayDistinct(arrayMap(p -> p.2, until_then))) AS shops
    FROM
    (
        SELECT
            *,
            arrayFilter(
                c -> c.1.2 != c.2.2, arrayZip(arrayPopBack(until_then), arrayPopFront(until_then))
            ) AS its_changes
        FROM
        (
            SELECT
                l.*, move,
                arrayFilter(p -> p.1 <= move.6 AND p.1 > move.6 - 120 * 86400000, past) AS until_then
            FROM
            (
                SELECT
                    kind, subject_id, customer_id, shop_id, its_partition, since AS judged_at, since AS left_at,
                    ended_ms, its_day, by_bot, 0 AS is_left_out, natural, 0 AS forgot, its_words, its_moves
                FROM lost
                UNION ALL
                SELECT
                    kind, subject_id, customer_id, shop_id, its_partition, at, left_at, at, toDate32(today), 0,
                    is_left_out, 0, forgot, its_words, its_moves
                FROM lapsed
            ) AS l
            LEFT ARRAY JOIN its_moves AS move
            LEFT JOIN history AS h ON h.buyer = customer_id AND h.name = move.1
        )
    )
),
-- Every division is rounded down.
weighed AS
(
    SELECT
        *,
        if(
            empty(move.1), 0, toInt64(intDiv(if(is_for_price, least(94, 55 + 2 * percent_cheaper), 0) * trust, 200))
        ) AS price,
        if(empty(move.1), 0, toInt64(intDiv(
            multiIf(is_for_price, 0, is_unpriced, 50, there < here, 65, least(85, 65 + percent_dearer)) * trust, 200
        ))) AS competition,
        toInt64(if(shops < 3, 0, least(93, 60 + 10 * (shops - 3) + intDiv(30 * not_cheaper, 100)))) AS variety
    FROM
    (
        SELECT
            *,
            if(shops < 3, 200, 200 - not_cheaper) AS trust,
            NOT is_unpriced AND there < here AND percent_cheaper >= 3 AS is_for_price
        FROM
        (
            SELECT
                *,
                move.4 AS here,
                move.5 AS there,
                if(
                    comparisons = 0, 50, intDiv(100 * (comparisons - cheaper), greatest(comparisons, 1))
                ) AS not_cheaper,
                here < 0 OR there < 0 AS is_unpriced,
                intDiv(100 * (here - there), greatest(here, toInt256(1))) AS percent_cheaper,
                if(here > 0, intDiv(100 * (there - here), greatest(here, toInt256(1))), 0) AS percent_dearer
            FROM compared
        )
    )
),
scored AS
(
    SELECT
        *,
        multiIf(
            NOT is_aggrieved, 0,
            age <= fresh, full,
            intDiv(full * ({grievance_ms:Int64} - age), greatest({grievance_ms:Int64} - fresh, 1))
        ) AS dissatisfied,
        -- Of equal ones the first.
        arrayFilter(s -> s.2 > 0, [
            ('dissatisfied', toInt64(dissatisfied)), ('price', price), ('variety', variety),
            ('competition', competition), ('forgot', toInt64(forgot)), ('natural', toInt64(natural))
        ]) AS scores
    FROM
    (
        SELECT
            *,
            grievance.1 >= 0 AS is_aggrieved,
            greatest(left_at - grievance.1, 0) AS age,
            intDiv({grievance_ms:Int64}, 6) AS fresh,
            100 + grievance.2 AS full
        FROM
        (
            SELECT
                *,
                arrayMax(arrayPushFront(
                    arrayFilter(b -> b.1 <= judged_at AND b.1 > judged_at - {grievance_ms:Int64}, bad),
                    (toInt64(-1), 0)
                )) AS grievance
            FROM
            (
                -- Of several moves the one that weighs most.
                SELECT * FROM weighed
                ORDER BY greatest(price, competition, variety) DESC, move.2, move.3, move.1
                LIMIT 1 BY kind, subject_id
            ) AS w
            LEFT JOIN grievances USING (customer_id, shop_id)
        )
    )
)
SELECT
    leftPad(lower(hex(xxh3_128(concat(kind, '\0', subject_id)))), 32, '0') AS reason_id,
    kind,
    subject_id,
    shop_id,
    customer_id,
    ended_ms AS at,
    its_day AS day,
    nullIf(move.1, '') AS category,
    arrayFirst(s -> s.2 = arrayMax(arrayMap(x -> x.2, scored.scores)), scored.scores) AS top,
    if(top.2 < 40, 'unknown', top.1) AS reason,
    if(top.2 < 40, 0, top.2) AS score,
    arraySort(scored.scores) AS scores,
    arraySort(arrayConcat(
        its_words,
        arrayMap(
            p -> (p.1, concat(toString(intDiv(p.2, 10000)), '.', leftPad(toString(p.2 % 10000), 4, '0'))),
            arrayFilter(
                p -> p.2 >= 0 AND move.1 != '', [('price_here', move.4), ('price_there', move.5)]
            )
        ),
        if(
            move.1 = '',
            [],
            [
                ('category', move.1), ('to_shop', move.2), ('order', move.3), ('shops', toString(shops)),
                ('changes', toString(length(its_changes))), ('not_cheaper', toString(not_cheaper))
            ]
        ),
        if(
            is_aggrieved,
            [
                ('grievance', ['review', 'complaint', 'refunded', 'cancelled', 'reply'][-grievance.2]),
                ('grievance_days', toString(intDiv(age, 86400000)))
            ],
            []
        )
    )) AS evidence,
    by_bot AS is_bot,
    its_partition AS partition,
    is_left_out
FROM scored
