-- Who must be in which segment by each partition's watermark: computed from the raw events in one batch, by the
-- definitions. Shares no code with the stream. One row a customer in a shop; `answers`: of each segment of that shop
-- its name and whether they must be in it, NULL where the raw events do not decide that.
--
-- `rules` is put in its place by the caller, an expression made of the rules in force over the columns of `asked`:
-- (name, whether the rule holds, whether the shop has it). {words}: the texts in it. NULL is "not known", and `and`,
-- `or` and `not` make of it what can be said all the same: of an `any` one part that holds is enough.
--
-- Not known is a field (`unknown`) that customers.sql leaves out, for its reasons: of buyers in a shop with a model of
-- its own stage, tier, scores and price_band, and expected_orders_90d and p_return_90d where the model gives no closed
-- form, or all that models say where the profile was told by another; what is bounded (more than four currencies, more
-- than twelve categories); of one who was away reversed_orders, and counts that sessions before that (`blurred`) would
-- be in. Of a number that is rounded and lies half-way between two, either is true: an answer that hangs on which is
-- NULL (these columns are pairs, of both). Nothing at all is known of somebody of whom an event beyond the watermark is
-- known (the stream looks when its time has come), nor of who may have been forgotten (`is_unknown`).
WITH
{words:Array(String)} AS words,
/* accepted.sql */,
/* cart_lines.sql */,
filled AS
(
    SELECT DISTINCT customer_id, shop_id, n, 1 AS is_filled FROM cart_lines WHERE pieces > 0
),
-- Open sessions count as well.
stays AS
(
    SELECT
        customer_id, shop_id, max(end_ms) AS last_visit,
        groupArray((day, pages, added, changes, is_filled, end_ms)) AS its_sessions
    FROM
    (
        SELECT
            customer_id, shop_id, n,
            max(t) AS end_ms,
            toInt32(toDate32(fromUnixTimestamp64Milli(toInt64(min(t)), {zone:String}))) AS day,
            countIf(topic = 'visits') AS pages,
            countIf(topic = 'favorites' AND action = 'add') AS added,
            countIf(topic = 'carts') AS changes
        FROM activity
        GROUP BY customer_id, shop_id, n
    ) AS s
    LEFT JOIN filled USING (customer_id, shop_id, n)
    GROUP BY customer_id, shop_id
),
said AS
(
    SELECT customer_id, shop_id, groupUniqArray(toInt64(t)) AS times
    FROM accepted
    WHERE topic NOT IN ('feedback', 'identities')
    GROUP BY customer_id, shop_id
),
profiles AS
(
/* customers.sql */
),
asked AS
(
    SELECT
        customer_id, shop_id, partition, now_ms, today, order_days, times,
        arrayFilter(s -> s.6 > away_after, its_sessions) AS sessions,
        arrayFilter(s -> s.6 <= away_after, its_sessions) AS blurred,
        is_unknown OR arrayExists(t -> t > now_ms, times) AS is_open,
        is_there OR last_visit + {gap_ms:Int64} >= now_ms AS is_somebody,
        arrayConcat(
            if(
                is_buyer AND is_fitted,
                ['stage', 'tier', 'r_score', 'f_score', 'm_score', 'price_band'],
                []
            ),
            if(
                is_buyer AND is_fitted AND NOT is_by_model,
                ['p_alive', 'p_return_90d', 'expected_orders_90d', 'overdue_days'],
                []
            ),
            if(is_buyer AND is_calibrated, ['p_return_90d'], []),
            if(is_buyer AND model_kind != 'personal_rhythm', ['expected_orders_90d'], []),
            if(has_many_currencies, ['currency', 'monetary', 'average_order_value', 'mixed_currency'], []),
            if(has_many_names, ['preferred_categories'], []),
            if(was_away, ['reversed_orders'], [])
        ) AS unknown,
        stage, orders, purchase_days, reversed_orders, currency, mixed_currency, preferred_categories,
        -- The built-in model has none of these.
        CAST(NULL, 'Nullable(String)') AS tier,
        CAST(NULL, 'Nullable(UInt8)') AS score,
        toInt128(monetary * 10000) AS net,
        toInt128(average_order_value * 10000) AS average,
        if(is_buyer, silent, NULL) AS recency,
        -- `greatest` passes over nulls.
        if(isNull(next_order_day), NULL, greatest(today - next_order_day, 0)) AS overdue,
        now_ms - last_visit AS since_visit,
        now_ms - last_order_at AS since_order,
        -- Of today, not of the day that a profile was told.
        p_alive * (1 - exp(-shape * log1p(90 / (scale + silent)))) AS chance_90d,
        p_alive * (1 - exp(-shape * log1p(90 * lapse_chance / (scale + silent)))) / lapse_chance AS purchases_90d,
        [0.5 - 1e-7, 0.5 + 1e-7] AS halves,
        arrayMap(half -> floor(p_alive * 100 + half) / 100, halves) AS alive,
        arrayMap(half -> floor(chance_90d * 100 + half) / 100, halves) AS returns,
        arrayMap(half -> floor(purchases_90d * 100 + half) / 100, halves) AS expected,
        arrayMap(half -> floor(usual_gap_days * 10 + half) / 10, halves) AS gap,
        arrayMap(half -> floor(discount_affinity * 100 + half) / 100, halves) AS discounts
    FROM profiles
    INNER JOIN stays USING (customer_id, shop_id)
    INNER JOIN said USING (customer_id, shop_id)
)
SELECT
    customer_id, shop_id, partition, now_ms, times,
    arrayMap(
        rule -> (rule.1, multiIf(is_open, NULL, is_somebody, rule.2, 0)),
        arrayFilter(rule -> rule.3, CAST(
            /* rules */,
            'Array(Tuple(String, Nullable(UInt8), UInt8))'
        ))
    ) AS answers
FROM asked
