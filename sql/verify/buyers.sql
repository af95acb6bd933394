-- What the raw events say of buyers, by each partition's watermark: for customers.sql and transitions.sql.
--
-- {zone}: of the shops' calendars. {lapsed_days}: how many days without an order are a lapse.
-- {models}: (shop, version, kind, r, alpha, a, b, threshold, calibrated), the one of shop '' last, for all others;
-- version 0 is built in.
-- With L = ((alpha + T) / (alpha + t_x))^(r + x), P(alive) is 1 / (1 + odds L): T days from the first purchase day
-- to the day in question, t_x to the last one, x repeat purchase days. kind: whose odds; of personal_rhythm, a is
-- the chance to lapse, r the weight, alpha the weight times the usual gap.
/* watermarks.sql */,
people AS
(
    SELECT
        customer_id, shop_id,
        any(a.partition) AS its_partition,
        any(told_ms) AS now_ms,
        toInt32(toDate32(fromUnixTimestamp64Milli(now_ms, {zone:String}))) AS today,
        arrayFirst(m -> m.1 = shop_id OR m.1 = '', {models:Array(Tuple(
            String, UInt64, String, Float64, Float64, Float64, Float64, Float64, UInt8
        ))}) AS model
    FROM accepted AS a
    LEFT JOIN watermarks AS w ON w.partition = a.partition
    GROUP BY customer_id, shop_id
),
visits_of AS
(
    SELECT
        customer_id, shop_id,
        arraySort(groupArray((start_ms, end_ms, start_day, pages, added, changes))) AS all_visits
    FROM
    (
        SELECT
            customer_id, shop_id,
            min(t) AS start_ms,
            max(t) AS end_ms,
            toInt32(toDate32(fromUnixTimestamp64Milli(start_ms, {zone:String}))) AS start_day,
            countIf(topic = 'visits') AS pages,
            countIf(topic = 'favorites' AND action = 'add') AS added,
            countIf(topic = 'carts') AS changes
        FROM activity
        GROUP BY customer_id, shop_id, n
    )
    GROUP BY customer_id, shop_id
),
bought AS
(
    SELECT
        customer_id, shop_id,
        groupArray((moment, day, is_reversed, is_discounted, ifNull(order_currency, ''), net, names)) AS all_orders,
        arrayFlatten(groupArray(mention_times)) AS all_mentions
    FROM
    (
        SELECT
            customer_id, shop_id, moment, is_reversed, order_currency, mention_times,
            toInt32(toDate32(fromUnixTimestamp64Milli(moment, {zone:String}))) AS day,
            if(worth > taken_back, worth - taken_back, toDecimal128(0, 4)) AS net,
            -- Taken off line by line, or by a total below the sum of the lines.
            arrayExists(x -> isNotNull(x.price) AND ifNull(x.discount, 0) > 0, its_lines)
                OR arraySum(x -> toDecimal128(ifNull(x.price, 0), 4) * x.quantity, its_lines) > worth
                AS is_discounted,
            arrayMap(
                x -> substringUTF8(x, 1, 64),
                arrayDistinct(arrayFilter(x -> notEmpty(x), arrayMap(x -> ifNull(x.category, ''), its_lines)))
            ) AS names
        FROM orders
    )
    GROUP BY customer_id, shop_id
),
known AS
(
    SELECT
        customer_id, shop_id, its_partition, now_ms, today, model,
        arrayMax(arrayPushFront(arrayFilter(m -> m <= now_ms, all_mentions), 0)) AS last_mention,
        arrayExists(m -> m > now_ms, all_mentions) AS has_more_to_come,
        -- Orders stamped after the watermark are still to come.
        arraySort(o -> o.1, arrayFilter(o -> o.1 <= now_ms, all_orders)) AS placed,
        arrayFilter(o -> NOT o.3, placed) AS standing,
        -- The first standing order of each day: there a purchase occasion, and an episode, begins.
        arrayFilter(
            (o, before) -> o.2 != before, standing, arrayPopBack(arrayPushFront(arrayMap(o -> o.2, standing), -1))
        ) AS occasions,
        -- A session closes when the watermark is beyond the gap after it.
        arrayFilter(v -> v.2 + {gap_ms:Int64} < now_ms, all_visits) AS closed,
        -- In which they may have been forgotten, so that what was before is not known any more; what ends a pause
        -- may come after them, by as much as the horizon.
        arrayZip(
            arrayMap(v -> v.2, arrayPopBack(all_visits)), arrayMap(v -> v.1, arrayPopFront(all_visits))
        ) AS pauses,
        if(empty(standing), 0, standing[1].1) AS first_at,
        arrayExists(
            p -> p.2 > p.1 + {buyer_memory_ms:Int64} - {horizon_ms:Int64} AND first_at > 0 AND first_at <= p.1, pauses
        ) AS is_blurred,
        arrayMax(arrayPushFront(arrayMap(
            p -> if(
                p.2 > p.1 + {prospect_memory_ms:Int64} - {horizon_ms:Int64} AND (first_at = 0 OR first_at > p.1),
                p.1, 0
            ),
            pauses
        ), 0)) AS away_after
    FROM people
    LEFT JOIN bought USING (customer_id, shop_id)
    LEFT JOIN visits_of USING (customer_id, shop_id)
),
episodes AS
(
    SELECT
        customer_id, shop_id, its_partition, is_blurred, model,
        toInt64(place - 1) AS x,
        occasions[place].1 AS anchor,
        occasions[place].2 AS day,
        day - occasions[1].2 AS t_x,
        if(place = length(occasions), now_ms, occasions[place + 1].1) AS until_ms,
        model.4 + x AS shape,
        model.5 + t_x AS scale,
        multiIf(
            model.3 = 'personal_rhythm', model.6 / (1 - model.6),
            model.3 = 'mbg_nbd', model.6 / (model.7 + x),
            x = 0, 0,
            model.6 / (model.7 + x - 1)
        ) AS odds,
        -- e^y - 1 is 2 e^(y/2) sinh(y/2), which keeps its digits where y is small.
        greatest(log((1 - model.8) / model.8) - log(odds), 0) / shape / 2 AS half_growth,
        scale * 2 * exp(half_growth) * sinh(half_growth) AS crosses_after,
        log(2) / shape / 2 AS half_of_due,
        scale * 2 * exp(half_of_due) * sinh(half_of_due) AS due_after,
        -- In whole days, and not before a whole one has passed; a crossing on a day is on it, give or take an ulp.
        if(t_x + crosses_after <= 36500, greatest(2, toInt32(ceil(crosses_after - 1e-9))), NULL) AS lapsing_after,
        if(due_after <= 36500, greatest(1, toInt32(ceil(due_after - 1e-9))), NULL) AS expected_after,
        toUnixTimestamp64Milli(toDateTime64(toDate32(day + {lapsed_days:Int32}), 3, {zone:String})) AS silent_ms,
        toUnixTimestamp64Milli(
            toDateTime64(toDate32(day + ifNull(lapsing_after, 0)), 3, {zone:String})
        ) AS overdue_ms,
        silent_ms <= until_ms AS has_lapsed,
        ifNull(lapsing_after < {lapsed_days:Int32}, 0) AND overdue_ms <= until_ms AS is_lapsing
    FROM known
    ARRAY JOIN arrayEnumerate(occasions) AS place
),
-- Which stage an occasion leads to depends on whether the one before it had ended in a lapse.
entered AS
(
    SELECT
        *,
        lagInFrame(is_lapsing, 1, 0) OVER w AS was_lapsing,
        lagInFrame(has_lapsed, 1, 0) OVER w AS had_lapsed,
        lagInFrame(has_lapsed, 2, 0) OVER w AS had_lapsed_before,
        multiIf(x = 0, 'new', had_lapsed, 'won_back', 'active') AS stage,
        multiIf(
            x = 0, 'prospect', had_lapsed, 'lapsed', was_lapsing, 'lapsing', x = 1, 'new',
            had_lapsed_before, 'won_back', 'active'
        ) AS stage_before
    FROM episodes
    WINDOW w AS (PARTITION BY customer_id, shop_id ORDER BY x ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
