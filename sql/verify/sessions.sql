-- What the sessions must be: computed from the raw events in one batch, by the definitions and by nothing else.
-- Shares no code with the stream. One row a session of the customers of one slice, in the columns of `sessions`.
--
-- {gap_ms}, {recovery_ms}, {amendment_ms}, {bot_events}, {bot_dwell_ms}, {bot_rate}: the policy. {bot_agents}: the
-- hashes of the user agents that are machines'. {zone}: of the shops' calendar. The others are those of the parts.
WITH
/* accepted.sql */,
spans AS
(
    SELECT
        customer_id, shop_id, n,
        any(partition) AS its_partition,
        min(t) AS start_ms,
        max(t) AS end_ms,
        end_ms + {gap_ms:Int64} AS closes_ms,
        count() AS all_events,
        countIf(topic = 'visits') AS visits,
        countIf(topic = 'favorites' AND action = 'add') AS favorites,
        countIf(topic = 'carts') AS carts,
        countIf(action = 'paid') AS payments,
        max(is_bot) AS any_bot,
        max(ifNull(cityHash64(user_agent) IN {bot_agents:Array(UInt64)}, 0)) AS any_agent,
        -- argMin passes over nulls.
        argMinIf(item_id, (t, id), topic = 'visits') AS first_item,
        argMin(channel, (t, id)) AS first_channel,
        argMin(campaign, (t, id)) AS first_campaign,
        argMinIf(currency, (t, id), topic = 'carts' AND isNotNull(price)) AS cart_currency,
        groupUniqArrayIf(currency, topic = 'carts' AND isNotNull(price)) AS cart_currencies
    FROM activity
    GROUP BY customer_id, shop_id, n
),
-- A favorite stands if the last word on its item, or on the shop, was to add it.
favored AS
(
    SELECT customer_id, shop_id, n, countIf(last_word = 'add') > 0 AS any_standing
    FROM
    (
        SELECT customer_id, shop_id, n, argMax(action, (t, id)) AS last_word
        FROM activity
        WHERE topic = 'favorites'
        GROUP BY customer_id, shop_id, n, if(target = 'shop', '', ifNull(item_id, ''))
    )
    GROUP BY customer_id, shop_id, n
),
/* cart_lines.sql */,
cart_lines_of_session AS
(
    SELECT
        customer_id, shop_id, n,
        groupArray((item_id, pieces, touched, priced.1, priced.2)) AS filled
    FROM cart_lines
    WHERE pieces > 0
    GROUP BY customer_id, shop_id, n
),
/* orders.sql */,
orders_of_shop AS
(
    SELECT
        customer_id, shop_id,
        groupArray((
            order_id, moment, moment_id, order_currency, items, worth, taken_back, is_reversed, weight,
            mention_times
        )) AS known
    FROM
    (
        SELECT * REPLACE (ifNull(order_id, '') AS order_id) FROM orders
    )
    GROUP BY customer_id, shop_id
),
judged AS
(
    SELECT
        customer_id, shop_id, n, its_partition, start_ms, end_ms, closes_ms, all_events, visits, favorites, carts,
        payments, any_bot, any_agent, first_item, first_channel, first_campaign, cart_currencies, any_standing,
        arrayFilter(o -> o.2 BETWEEN start_ms AND end_ms, known) AS own,
        arrayFilter(o -> NOT o.8, own) AS standing_orders,
        arraySort(
            arrayMap(o -> (o.2, o.3, assumeNotNull(o.4)), arrayFilter(o -> isNotNull(o.4), own))
        ) AS priced_orders,
        if(empty(priced_orders), cart_currency, priced_orders[1].3) AS its_currency,
        -- A line is bought by a standing order of its session that has the item and is not older than its last touch.
        arrayFilter(
            line -> NOT arrayExists(o -> has(o.5, line.1) AND (o.2, o.3) >= line.3, standing_orders), filled
        ) AS standing_lines,
        arrayFilter(
            o -> arrayExists(
                m -> (m BETWEEN start_ms AND end_ms) OR (m > closes_ms AND m <= closes_ms + {recovery_ms:Int64}),
                o.10
            ),
            known
        ) AS bearing,
        arraySort(arrayMap(
            o -> (o.2, o.3, o.1),
            arrayFilter(o -> NOT o.8 AND o.2 > closes_ms AND o.2 <= closes_ms + {recovery_ms:Int64}, known)
        )) AS comebacks
    FROM spans
    LEFT JOIN favored USING (customer_id, shop_id, n)
    LEFT JOIN cart_lines_of_session USING (customer_id, shop_id, n)
    LEFT JOIN orders_of_shop USING (customer_id, shop_id)
)
SELECT
    -- hex leaves leading zeros out.
    leftPad(lower(hex(xxh3_128(concat(customer_id, '\0', shop_id, '\0', toString(start_ms))))), 32, '0') AS session_id,
    shop_id,
    customer_id,
    start_ms AS started_at,
    end_ms AS ended_at,
    if(empty(standing_orders), 'lost', 'converted') AS outcome,
    multiIf(
        notEmpty(standing_orders), NULL,
        notEmpty(standing_lines), 'carted',
        any_standing, 'favorited',
        all_events = 1 AND visits = 1, 'bounced',
        'browsed'
    ) AS lost_stage,
    all_events AS events,
    visits,
    favorites,
    carts,
    arraySum(
        line -> if(
            isNull(line.4) OR ifNull(line.5 != its_currency, 0),
            toDecimal128(0, 4),
            toDecimal128(ifNull(line.4, 0), 4) * line.2
        ),
        standing_lines
    ) AS cart_value,
    its_currency AS currency,
    arrayExists(o -> ifNull(o.4 != its_currency, 0), own)
        OR arrayExists(x -> ifNull(x != its_currency, 0), cart_currencies) AS mixed_currency,
    length(standing_orders) AS orders,
    arraySum(
        o -> if(ifNull(o.4 != its_currency, 0) OR o.7 > o.6, toDecimal128(0, 4), o.6 - o.7), standing_orders
    ) AS revenue,
    empty(standing_orders) AND notEmpty(comebacks) AS recovered,
    if(recovered, comebacks[1].1, NULL) AS recovered_at,
    if(recovered, comebacks[1].3, NULL) AS recovered_by,
    first_item AS landing_item,
    first_channel AS channel,
    first_campaign AS campaign,
    isNotNull(bot_by) AS is_bot,
    toDate32(fromUnixTimestamp64Milli(start_ms, {zone:String})) AS day,
    /* bot_by.sql */ AS bot_by,
    all_events + arraySum(o -> o.9, bearing) AS version,
    its_partition AS partition
FROM judged
-- Payments of orders that are other sessions' are no session.
WHERE NOT (payments = all_events AND empty(own))
