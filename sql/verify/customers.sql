-- What the profiles must be by each partition's watermark: computed from the raw events in one batch, by the
-- definitions. Shares no code with the stream. One row a customer in a shop, in the columns of `customers`; shares,
-- chances and the usual gap are not rounded. A profile is told again when something but its day has changed, so
-- one told earlier must still hold by the watermark.
--
-- {prospect_memory_ms}, {buyer_memory_ms}, {horizon_ms}: the policy; the others are those of the parts.
--
-- One thing is taken from the published row: the day that a lapsed buyer's chances are of. The stream looks at a
-- lapsed buyer again when P(alive) shows another share, not daily as at others, so p_return_90d and
-- expected_orders_90d are as of `as_of`, the row's day. recency_days and overdue_days are by definition.
--
-- Left out: `version`, which counts tellings and so depends on where batches end. Of a shop with a model of its own
-- (`is_fitted`): stage and stage_since, because what was told under an earlier model stands; tier, scores and
-- price_band, which need its cut points; expected_orders_90d unless its model is personal_rhythm, because the
-- others' has no closed form; p_return_90d where it is calibrated on that. Of a customer with more than twelve
-- categories or four currencies (`has_many`): preferred_categories, and the sums by currency, because the stream
-- bounds what it keeps. Of one who was away for longer than prospects are remembered (`was_away`): reversed_orders
-- and the sums of activity, and the whole row of a buyer who was away for longer than buyers are, or of one with
-- an order stamped beyond the watermark that may have come in before they were forgotten (`is_unknown`): whether the
-- stream had forgotten them by then depends on where batches end.
WITH
/* accepted.sql */,
/* orders.sql */,
/* buyers.sql */,
-- The last episode of each buyer, and when the last step of all was.
line AS
(
    SELECT
        customer_id, shop_id,
        argMax(
            (
                multiIf(has_lapsed, 'lapsed', is_lapsing, 'lapsing', stage), x, t_x, day, shape, scale, odds,
                expected_after
            ),
            x
        ) AS latest,
        max(multiIf(
            has_lapsed, silent_ms, is_lapsing, overdue_ms, stage_before != stage, anchor, 0
        )) AS since
    FROM entered
    GROUP BY customer_id, shop_id
),
spoken AS
(
    SELECT
        customer_id, shop_id, toInt32(toDate32(as_of)) AS told_day, model_version AS told_model, 1 AS is_told
    FROM customers FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
)
SELECT
    shop_id,
    customer_id,
    notEmpty(standing) AS is_buyer,
    if(is_buyer, latest.1, 'prospect') AS stage,
    if(is_buyer, since, NULL) AS stage_since,
    latest.2 AS x,
    latest.3 AS t_x,
    latest.4 AS last_day,
    latest.5 AS shape,
    latest.6 AS scale,
    latest.7 AS odds,
    today - last_day AS silent,
    if(stage = 'lapsed' AND is_told, least(today, told_day), today) - last_day AS silent_told,
    1 / (1 + odds * exp(shape * log1p(silent_told / scale))) AS alive_told,
    if(is_buyer, 1 / (1 + odds * exp(shape * log1p(silent / scale))), NULL) AS p_alive,
    if(is_buyer, alive_told * (1 - exp(-shape * log1p(90 / (scale + silent_told)))), NULL) AS p_return_90d,
    if(
        is_buyer AND model.3 = 'personal_rhythm',
        alive_told * (1 - exp(-shape * log1p(90 * model.6 / (scale + silent_told)))) / model.6,
        NULL
    ) AS expected_orders_90d,
    if(is_buyer, last_day + latest.8, NULL) AS next_order_day,
    if(is_buyer AND x > 0, t_x / x, NULL) AS usual_gap_days,
    if(is_buyer, standing[1].1, NULL) AS first_order_at,
    if(is_buyer, standing[-1].1, NULL) AS last_order_at,
    if(is_buyer, last_day - t_x, NULL) AS first_order_day,
    if(is_buyer, last_day, NULL) AS last_order_day,
    length(occasions) AS purchase_days,
    length(standing) AS orders,
    length(placed) - length(standing) AS reversed_orders,
    -- Money is summed in the currency of the most standing orders, with those that name none.
    arrayDistinct(arrayMap(o -> o.5, standing)) AS currencies,
    arraySort(arrayMap(
        c -> (-toInt64(arrayCount(o -> o.5 = c, standing)), c), arrayFilter(c -> c != '', currencies)
    )) AS ranked,
    if(empty(ranked), '', ranked[1].2) AS main,
    arrayFilter(o -> o.5 = '' OR o.5 = main, standing) AS summed,
    arraySum(o -> o.6, summed) AS monetary,
    if(
        empty(summed), toDecimal128(0, 4),
        -- Rounded down.
        toDecimal128(intDiv(toInt256(monetary * 10000), toInt256(length(summed))), 4) / 10000
    ) AS average_order_value,
    nullIf(main, '') AS currency,
    length(ranked) > 1 AS mixed_currency,
    arrayFlatten(arrayMap(o -> arrayMap(name -> (name, o.1), o.7), standing)) AS bought_names,
    arraySort(arrayMap(
        name -> (
            -toInt64(arrayCount(b -> b.1 = name, bought_names)),
            -arrayMax(arrayMap(b -> if(b.1 = name, b.2, 0), bought_names)),
            name
        ),
        arrayDistinct(arrayMap(b -> b.1, bought_names))
    )) AS ranked_names,
    arrayMap(r -> r.3, arraySlice(ranked_names, 1, 3)) AS preferred_categories,
    if(is_buyer, arrayCount(o -> o.4, standing) / length(standing), NULL) AS discount_affinity,
    arraySum(v -> if(v.3 > today - 30, v.4, 0), closed) AS visits_30d,
    arraySum(v -> if(v.3 > today - 30, v.5, 0), closed) AS favorites_30d,
    arraySum(v -> if(v.3 > today - 30, v.6, 0), closed) AS carts_30d,
    arraySum(v -> if(v.3 > today - 90, v.4, 0), closed) AS visits_90d,
    arraySum(v -> if(v.3 > today - 90, v.5, 0), closed) AS favorites_90d,
    arraySum(v -> if(v.3 > today - 90, v.6, 0), closed) AS carts_90d,
    if(empty(closed), 0, arrayMax(arrayMap(v -> v.2, closed))) AS seen_ms,
    nullIf(seen_ms, 0) AS last_seen_at,
    model.2 AS model_version,
    model.3 AS model_kind,
    model.9 AS is_calibrated,
    its_partition AS partition,
    today,
    -- For segments.sql. By another model than the one that is given, nothing that models say is known.
    now_ms,
    arrayMap(o -> o.2, standing) AS order_days,
    is_told AND told_model = model.2 AS is_by_model,
    model.6 AS lapse_chance,
    model.2 > 0 AS is_fitted,
    length(currencies) > 4 AS has_many_currencies,
    length(ranked_names) > 12 AS has_many_names,
    away_after,
    away_after > 0 AS was_away,
    -- And not before orders and sessions are settled.
    greatest(
        greatest(seen_ms, multiIf(is_buyer, standing[-1].1, notEmpty(placed), placed[-1].1, 0))
            + if(is_buyer, {buyer_memory_ms:Int64}, {prospect_memory_ms:Int64}),
        if(
            last_mention = 0, 0,
            last_mention + {horizon_ms:Int64} + greatest({amendment_ms:Int64}, {gap_ms:Int64} + {recovery_ms:Int64})
        ),
        if(seen_ms = 0, 0, seen_ms + {gap_ms:Int64} + {recovery_ms:Int64} + {horizon_ms:Int64})
    ) AS remembered_until,
    -- Told of once a session has closed or an order has come, until forgotten.
    (seen_ms > 0 OR notEmpty(placed)) AND now_ms <= remembered_until AS is_there,
    is_blurred OR (now_ms > remembered_until AND has_more_to_come) AS is_unknown
FROM known
LEFT JOIN line USING (customer_id, shop_id)
LEFT JOIN spoken USING (customer_id, shop_id)
