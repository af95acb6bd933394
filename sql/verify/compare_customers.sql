-- What the stream said of customers against what it must say, column by column, for those of one slice: one row.
--
-- `expected` is customers.sql, put in its place by the caller, with its parameters. A published number of n decimals
-- agrees with what it must be if it is within half of the last decimal of it: where that lies half-way between two
-- (a one-time buyer's P(alive) by the built-in model is 0.375 after 170 days), either is true.
WITH
expected AS
(
/* customers.sql */
),
published AS
(
    SELECT *
    FROM customers FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
pairs AS
(
    SELECT
        if(e.is_expected = 1, e.customer_id, p.customer_id) AS customer_id,
        if(e.is_expected = 1, e.shop_id, p.shop_id) AS shop_id,
        e.is_unknown AS is_left_out,
        e.is_there AS is_wanted,
        p.version > 0 AS is_published,
        arrayConcat(
            if(
                e.is_fitted, ['stage', 'stage_since', 'tier', 'r_score', 'f_score', 'm_score', 'price_band'], []
            ),
            -- Told under an earlier model than the one that is given: none of its figures can be judged.
            if(
                e.is_fitted AND e.model_version != p.model_version,
                ['model_version', 'p_alive', 'p_return_90d', 'expected_orders_90d', 'next_order_on'], []
            ),
            if(e.is_calibrated, ['p_return_90d'], []),
            if(e.model_kind != 'personal_rhythm', ['expected_orders_90d'], []),
            if(e.has_many_currencies, ['currency', 'monetary', 'average_order_value', 'mixed_currency'], []),
            if(e.has_many_names, ['preferred_categories'], []),
            if(
                e.was_away,
                [
                    'reversed_orders', 'visits_30d', 'favorites_30d', 'carts_30d', 'visits_90d', 'favorites_90d',
                    'carts_90d'
                ],
                []
            )
        ) AS left_out,
        arrayFilter(c -> c.2 != c.3, [
            ('stage', e.stage, toString(p.stage)),
            (
                'stage_since', ifNull(toString(e.stage_since), 'null'),
                ifNull(toString(toUnixTimestamp64Milli(p.stage_since)), 'null')
            ),
            ('tier', 'null', ifNull(toString(p.tier), 'null')),
            ('r_score', 'null', ifNull(toString(p.r_score), 'null')),
            ('f_score', 'null', ifNull(toString(p.f_score), 'null')),
            ('m_score', 'null', ifNull(toString(p.m_score), 'null')),
            ('price_band', 'null', ifNull(toString(p.price_band), 'null')),
            (
                'next_order_on', ifNull(toString(toDate32(e.next_order_day)), 'null'),
                ifNull(toString(p.next_order_on), 'null')
            ),
            (
                'first_order_at', ifNull(toString(e.first_order_at), 'null'),
                ifNull(toString(toUnixTimestamp64Milli(p.first_order_at)), 'null')
            ),
            (
                'last_order_at', ifNull(toString(e.last_order_at), 'null'),
                ifNull(toString(toUnixTimestamp64Milli(p.last_order_at)), 'null')
            ),
            (
                'first_order_on', ifNull(toString(toDate32(e.first_order_day)), 'null'),
                ifNull(toString(p.first_order_on), 'null')
            ),
            (
                'last_order_on', ifNull(toString(toDate32(e.last_order_day)), 'null'),
                ifNull(toString(p.last_order_on), 'null')
            ),
            ('purchase_days', toString(e.purchase_days), toString(p.purchase_days)),
            ('orders', toString(e.orders), toString(p.orders)),
            ('reversed_orders', toString(e.reversed_orders), toString(p.reversed_orders)),
            ('monetary', toString(toDecimal128(e.monetary, 4)), toString(p.monetary)),
            (
                'average_order_value', toString(toDecimal128(e.average_order_value, 4)),
                toString(p.average_order_value)
            ),
            ('currency', ifNull(toString(e.currency), 'null'), ifNull(toString(p.currency), 'null')),
            ('mixed_currency', toString(toUInt8(e.mixed_currency)), toString(toUInt8(p.mixed_currency))),
            ('preferred_categories', toString(e.preferred_categories), toString(p.preferred_categories)),
            ('visits_30d', toString(e.visits_30d), toString(p.visits_30d)),
            ('favorites_30d', toString(e.favorites_30d), toString(p.favorites_30d)),
            ('carts_30d', toString(e.carts_30d), toString(p.carts_30d)),
            ('visits_90d', toString(e.visits_90d), toString(p.visits_90d)),
            ('favorites_90d', toString(e.favorites_90d), toString(p.favorites_90d)),
            ('carts_90d', toString(e.carts_90d), toString(p.carts_90d)),
            (
                'last_seen_at', ifNull(toString(e.last_seen_at), 'null'),
                ifNull(toString(toUnixTimestamp64Milli(p.last_seen_at)), 'null')
            ),
            ('model_version', toString(e.model_version), toString(p.model_version)),
            ('partition', toString(e.partition), toString(p.partition)),
            -- By definition: from the row's own day, which has come by the watermark.
            ('as_of', toString(least(p.as_of, toDate32(e.today))), toString(p.as_of)),
            (
                'recency_days', ifNull(toString(toInt32(p.as_of) - toInt32(p.last_order_on)), 'null'),
                ifNull(toString(p.recency_days), 'null')
            ),
            (
                'overdue_days',
                if(
                    isNull(p.next_order_on), 'null',
                    toString(greatest(toInt32(p.as_of) - toInt32(assumeNotNull(p.next_order_on)), 0))
                ),
                ifNull(toString(p.overdue_days), 'null')
            )
        ]) AS texts,
        arrayFilter(c -> if(isNull(c.2) OR isNull(c.3), isNull(c.2) != isNull(c.3), abs(c.2 - c.3) > c.4 + 1e-9), [
            ('p_alive', e.p_alive, p.p_alive, 0.005),
            ('p_return_90d', e.p_return_90d, p.p_return_90d, 0.005),
            ('expected_orders_90d', e.expected_orders_90d, p.expected_orders_90d, 0.005),
            ('usual_gap_days', e.usual_gap_days, p.usual_gap_days, 0.05),
            ('discount_affinity', e.discount_affinity, p.discount_affinity, 0.005)
        ]) AS numbers,
        arrayFilter(c -> NOT has(left_out, c.1), arrayConcat(texts, arrayMap(
            c -> (c.1, ifNull(toString(c.2), 'null'), ifNull(toString(c.3), 'null')), numbers
        ))) AS differences,
        multiIf(
            is_left_out, 'unjudged',
            is_wanted AND NOT is_published, 'missing',
            is_published AND NOT is_wanted, 'extra',
            NOT is_published, 'none',
            notEmpty(differences), 'different',
            'same'
        ) AS finding
    FROM (SELECT *, 1 AS is_expected FROM expected) AS e
    FULL OUTER JOIN published AS p ON p.customer_id = e.customer_id AND p.shop_id = e.shop_id
)
SELECT
    countIf(finding = 'same') AS same,
    countIf(finding = 'missing') AS missing,
    countIf(finding = 'extra') AS extra,
    countIf(finding = 'different') AS different,
    countIf(finding = 'unjudged') AS open,
    groupArrayIf(10)(
        (finding, customer_id, shop_id, '', if(finding = 'different', differences, [])),
        finding IN ('missing', 'extra', 'different')
    ) AS samples
FROM pairs
