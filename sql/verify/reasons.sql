-- Why sessions were lost and buyers lapsed: computed in one batch, by the definitions. Shares no code with the stream.
-- One row a loss, in the columns of `reasons`; scores are whole percents, and with the evidence lists of (name, value)
-- by name.
--
-- Orders, feedback, lapses and the days of silence are taken from the raw events. Lost sessions and leaks are taken as
-- they were told: each is judged by itself, so that if all tables are as they must be, reasons follow from the raw
-- events as well.
--
-- {grievance_ms}, {amendment_ms}: the policy; {has_lapses}: whether buyers are looked after. The others are those of
-- the parts; {everywhere} must be set.
--
-- Left out: `version`, which counts tellings and so depends on where batches end; and the lapses of a buyer of whom
-- transitions are left out, or whose shop has a model of its own, under which they were told (`is_left_out`).
WITH
/* accepted.sql */,
/* orders.sql */,
/* purchased.sql */,
/* sold.sql */,
/* buyers.sql */,
/* steps.sql */,
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
lapses AS
(
    SELECT
        customer_id, shop_id, its_partition, anchor, at, to_state,
        is_blurred OR model.2 > 0 AS is_left_out,
        leftPad(lower(hex(xxh3_128(concat(
            customer_id, '\0', shop_id, '\0stage\0', toString(anchor), '\0', to_state
        )))), 32, '0') AS subject_id,
        arrayMax(arrayPushFront(
            arrayFilter(end -> end <= at, arrayMap(v -> toInt64(v.2), all_visits)), toInt64(0)
        )) AS seen_ms,
        x = 0 AS is_one_time,
        toInt32(toDate32(fromUnixTimestamp64Milli(at, {zone:String}))) AS today,
        today - toInt32(toDate32(fromUnixTimestamp64Milli(anchor, {zone:String}))) AS silence,
        today - toInt32(toDate32(fromUnixTimestamp64Milli(greatest(anchor, seen_ms), {zone:String}))) AS unseen,
        -- e^y - 1 is 2 e^(y/2) sinh(y/2), which keeps its digits where y is small; give or take an ulp.
        log(10) / shape / 2 AS half_of_most,
        least(scale * 2 * exp(half_of_most) * sinh(half_of_most), 36500) AS gap_of_most,
        greatest(toInt64(floor(gap_of_most + 1e-9)), 1) AS q90
    FROM steps
    LEFT JOIN visits_of USING (customer_id, shop_id)
    WHERE {has_lapses:UInt8} AND (to_state IN ('lapsing', 'lapsed') OR is_left_out) AND
        /* here.sql */
),
lost AS
(
    SELECT
        'session' AS kind, toString(session_id) AS subject_id, customer_id, shop_id, partition AS its_partition,
        toUnixTimestamp64Milli(started_at) AS since, toUnixTimestamp64Milli(ended_at) AS at, since AS judged_at,
        toDate32(day) AS its_day, toUInt8(is_bot) AS by_bot, 0 AS is_left_out,
        if(lost_stage IN ('bounced', 'browsed'), 40, 0) AS natural, 0 AS forgot,
        [('stage', ifNull(toString(lost_stage), ''))] AS its_evidence
    FROM sessions FINAL
    WHERE outcome = 'lost' AND
        /* slice.sql */
        AND
        /* here.sql */
    UNION ALL
    SELECT
        'lapse', subject_id, customer_id, shop_id, its_partition, anchor, at, at, toDate32(today), 0, is_left_out, 0,
        if(
            unseen < q90, 0,
            least(64, 50 + intDiv(greatest(intDiv(100 * unseen, q90) - 100, 0), 10) + if(is_one_time, 5, 0))
        ),
        [
            ('silence_days', toString(silence)),
            ('unseen_days', toString(unseen)),
            ('q90_days', toString(q90)),
            ('one_time', if(is_one_time, 'true', 'false'))
        ]
    FROM lapses
),
-- Where a lost session went: to leaks that were seen in it.
moves_of_lost AS
(
    SELECT
        kind, subject_id, l.customer_id AS customer_id, category, to_shop_id AS to_shop, order_id AS its_order,
        if(isNull(price_here), toInt256(-1), toInt256(ifNull(price_here, 0) * 10000)) AS here,
        if(isNull(price_there), toInt256(-1), toInt256(ifNull(price_there, 0) * 10000)) AS there,
        toUnixTimestamp64Milli(ordered_at) AS moved_at
    FROM
    (
        SELECT
            customer_id, shop_id, to_shop_id, order_id, ordered_at, seen_at, price_here, price_there, category
        FROM leaks FINAL
        ARRAY JOIN categories AS category
        WHERE
            /* slice.sql */
            AND
            /* here.sql */
    ) AS l
    INNER JOIN
    (
        SELECT * FROM lost WHERE kind = 'session'
    ) AS s ON s.customer_id = l.customer_id AND s.shop_id = l.shop_id
    WHERE toUnixTimestamp64Milli(seen_at) BETWEEN since AND at
),
-- Where a buyer who lapsed went: to purchases elsewhere, since the last one here, of what was bought here before.
moves_of_lapsed AS
(
    SELECT
        'lapse' AS kind, subject_id, customer_id, name AS category, away.2 AS to_shop, away.3 AS its_order,
        bought_here[-1] AS last,
        if(last.5 != '' AND away.5 != '' AND last.5 != away.5, toInt256(-1), last.4) AS here,
        away.4 AS there,
        away.1 AS moved_at
    FROM
    (
        SELECT
            subject_id, customer_id, name,
            arrayFilter(p -> p.2 = shop_id AND p.1 <= at AND p.1 > at - 120 * 86400000, past) AS bought_here,
            arrayFilter(
                p -> p.2 != shop_id AND p.1 <= at AND p.1 > greatest(anchor, at - 120 * 86400000), past
            ) AS bought_away
        FROM
        (
            SELECT * FROM lapses WHERE NOT is_left_out
        ) AS l
        INNER JOIN history AS h ON h.buyer = l.customer_id
    )
    ARRAY JOIN bought_away AS away
    WHERE notEmpty(bought_here)
),
-- Every division is rounded down.
weighed AS
(
    SELECT
        kind, subject_id, category, to_shop, its_order, here, there,
        arrayFilter(p -> p.1 <= moved_at AND p.1 > moved_at - 120 * 86400000, past) AS until_then,
        arrayFilter(
            c -> c.1.2 != c.2.2, arrayZip(arrayPopBack(until_then), arrayPopFront(until_then))
        ) AS its_changes,
        arrayFilter(c -> c.1.4 >= 0 AND c.2.4 >= 0 AND c.1.5 = c.2.5, its_changes) AS compared,
        arrayCount(c -> c.1.4 > 0 AND 100 * (c.1.4 - c.2.4) >= 3 * c.1.4, compared) AS cheaper,
        length(arrayDistinct(arrayMap(p -> p.2, until_then))) AS shops,
        if(
            empty(compared), 50, intDiv(100 * (length(compared) - cheaper), greatest(length(compared), 1))
        ) AS not_cheaper,
        if(shops < 3, 200, 200 - not_cheaper) AS trust,
        here < 0 OR there < 0 AS is_unpriced,
        intDiv(100 * (here - there), greatest(here, toInt256(1))) AS percent_cheaper,
        if(here > 0, intDiv(100 * (there - here), greatest(here, toInt256(1))), 0) AS percent_dearer,
        NOT is_unpriced AND there < here AND percent_cheaper >= 3 AS is_for_price,
        toInt64(intDiv(if(is_for_price, least(94, 55 + 2 * percent_cheaper), 0) * trust, 200)) AS price,
        toInt64(intDiv(
            multiIf(is_for_price, 0, is_unpriced, 50, there < here, 65, least(85, 65 + percent_dearer)) * trust, 200
        )) AS competition,
        toInt64(if(shops < 3, 0, least(93, 60 + 10 * (shops - 3) + intDiv(30 * not_cheaper, 100)))) AS variety,
        arrayConcat(
            [('category', category), ('to_shop', to_shop), ('order', its_order)],
            arrayMap(
                p -> (p.1, concat(
                    toString(intDiv(p.2, 10000)), '.', leftPad(toString(p.2 % 10000), 4, '0')
                )),
                arrayFilter(p -> p.2 >= 0, [('price_here', here), ('price_there', there)])
            ),
            [
                ('shops', toString(shops)), ('changes', toString(length(its_changes))),
                ('not_cheaper', toString(not_cheaper))
            ]
        ) AS its_words
    FROM
    (
        SELECT kind, subject_id, customer_id, category, to_shop, its_order, here, there, moved_at FROM moves_of_lost
        UNION ALL
        SELECT kind, subject_id, customer_id, category, to_shop, its_order, here, there, moved_at FROM moves_of_lapsed
    ) AS m
    INNER JOIN history AS h ON h.buyer = m.customer_id AND h.name = m.category
),
-- Of several the one that weighs most.
best AS
(
    SELECT
        kind, subject_id,
        argMin(
            (price, competition, variety, category, its_words),
            (-greatest(price, competition, variety), to_shop, its_order, category)
        ) AS move
    FROM weighed
    GROUP BY kind, subject_id
)
SELECT
    leftPad(lower(hex(xxh3_128(concat(kind, '\0', subject_id)))), 32, '0') AS reason_id,
    kind,
    subject_id,
    shop_id,
    customer_id,
    at,
    its_day AS day,
    nullIf(move.4, '') AS category,
    arrayMax(arrayPushFront(
        arrayFilter(b -> b.1 <= judged_at AND b.1 > judged_at - {grievance_ms:Int64}, bad), (toInt64(-1), 0)
    )) AS grievance,
    grievance.1 >= 0 AS is_aggrieved,
    judged_at - grievance.1 AS age,
    intDiv({grievance_ms:Int64}, 6) AS fresh,
    100 + grievance.2 AS full,
    multiIf(
        NOT is_aggrieved, 0,
        age <= fresh, full,
        intDiv(full * ({grievance_ms:Int64} - age), greatest({grievance_ms:Int64} - fresh, 1))
    ) AS dissatisfied,
    -- Of equal ones the first.
    arrayFilter(s -> s.2 > 0, [
        ('dissatisfied', toInt64(dissatisfied)), ('price', move.1), ('variety', move.3), ('competition', move.2),
        ('forgot', toInt64(forgot)), ('natural', toInt64(natural))
    ]) AS all_scores,
    arrayFirst(s -> s.2 = arrayMax(arrayMap(x -> x.2, all_scores)), all_scores) AS top,
    if(top.2 < 40, 'unknown', top.1) AS reason,
    if(top.2 < 40, 0, top.2) AS score,
    arraySort(all_scores) AS scores,
    arraySort(arrayConcat(
        its_evidence,
        move.5,
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
FROM lost
LEFT JOIN best USING (kind, subject_id)
LEFT JOIN grievances USING (customer_id, shop_id)
