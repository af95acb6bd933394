-- Question: which of the shop's items draw visitors, which earn, which could do more, and which stand at the edge
--   (引流款, 利润款, 潜力款, 边缘款)?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are left out, or empty; until and days, the
--   cycle's last day and how many it has; min_visitors, below which an item is unrated; limit, how many of each shop.
-- Grain: one item of a shop that was looked at or sold in the cycle, the most visited first. Bots are left out.
--
-- Visitors looked at the item's page in the cycle; bought is who of them ordered it on a day of looking. Per item, a
-- visitor or buyer counted once:
--   conversion           bought / visitors
--   revenue              net of the item's lines in orders of the cycle, in the shop's currency, or that of most orders
--   revenue_per_visitor  revenue / visitors
--   discount_share       discounts / gross of these lines
--   new_visitor_share    of its visitors, those with no session in the shop on the 6 days before their first here
--   repeat_affinity      of its buyers, those who ordered in the shop on the 365 days before their first order here
--   growth               (visitors + m) / (visitors of the cycle before + m), with m = min_visitors
--
-- An item is judged beside the shop's own: of each figure x it has the mid-rank r(x) among the shop's rated items, 0
-- for the least, 1 for the most, 0.5 where all are equal. Shares and revenue_per_visitor are drawn towards the shop's
-- mean first, as if m more visitors (5 more buyers for repeat_affinity) had been like the mean, so that few visitors
-- prove little; what sold nothing has the mean as discount_share.
--   traffic_score    (2 r(visitors) + r(new_visitor_share) + r(discount_share)) / 4
--   profit_score     (2 r(revenue_per_visitor) + 1 - r(discount_share) + r(repeat_affinity)) / 4
--   potential_score  (r(conversion) + r(growth)) / 2
-- Its role is the highest score that is at least 0.6 and whose condition holds, the first in this order if equal:
--   profit     r(revenue_per_visitor) >= 0.5, and it sold
--   traffic    r(visitors) >= 0.5
--   potential  r(visitors) < 0.5
-- and `edge` if there is none. `unrated`: fewer than min_visitors, or fewer than 4 items of the shop have as many.
WITH
{until:Date32} - {days:UInt16} + 1 AS since,
newcomers AS
(
    SELECT shop_id, customer_id
    FROM sessions FINAL
    -- What the key says comes before FINAL, which then merges less. The key has no day; one more at both ends, because
    -- days are the shop's.
    PREWHERE ({shop:String} = '' OR shop_id = {shop:String})
        AND started_at >= toDateTime64(since - 7, 3, 'UTC') AND started_at < toDateTime64({until:Date32} + 2, 3, 'UTC')
    WHERE day BETWEEN since - 6 AND {until:Date32} AND NOT is_bot
    GROUP BY shop_id, customer_id
    -- Whoever was here before their first day of the cycle was so before the cycle.
    HAVING countIf(day >= since) > 0 AND maxIf(day, day < since) < minIf(day, day >= since) - 6
),
traffic AS
(
    SELECT
        shop_id, item_id,
        -- Of the latest day that names one. argMax by day and name would take as long as all the rest.
        substring(max(concat(toString(day), category)), 11) AS category,
        uniqExactIf(customer_id, day >= since) AS visitors,
        uniqExactIf(customer_id, day < since) AS visitors_before,
        uniqExactIf(customer_id, day >= since AND disposition = 'bought_item') AS bought,
        uniqExactIf(
            customer_id, day >= since AND (shop_id, customer_id) IN (SELECT shop_id, customer_id FROM newcomers)
        ) AS new_visitors
    FROM item_days FINAL
    PREWHERE ({shop:String} = '' OR shop_id = {shop:String}) AND day BETWEEN since - {days:UInt16} AND {until:Date32}
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
    WHERE NOT is_bot
    GROUP BY shop_id, item_id
),
in_cycle_orders AS
(
    SELECT shop_id, customer_id, day, currency, lines
    FROM purchases FINAL
    WHERE ({shop:String} = '' OR shop_id = {shop:String}) AND day BETWEEN since AND {until:Date32}
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
),
-- Who ordered in the cycle, and also on the 365 days before their first order in it, and so before it.
old_buyers_of AS
(
    SELECT shop_id, customer_id
    FROM purchases FINAL
    WHERE ({shop:String} = '' OR shop_id = {shop:String}) AND day BETWEEN since - 365 AND {until:Date32}
        AND (shop_id, customer_id) IN (SELECT shop_id, customer_id FROM in_cycle_orders)
    GROUP BY shop_id, customer_id
    HAVING maxIf(day, day < since) >= minIf(day, day >= since) - 365
),
currencies AS
(
    SELECT shop_id, argMax(currency, (weight, currency)) AS shop_currency
    FROM
    (
        SELECT shop_id, toNullable(toString(o.currency)) AS currency, count() AS weight
        FROM in_cycle_orders AS o
        GROUP BY shop_id, currency
        UNION ALL
        -- What the shop says outweighs any count.
        SELECT shop_id, toNullable(toString(currency)), 18446744073709551615 FROM shops FINAL
    )
    WHERE isNotNull(currency)
    GROUP BY shop_id
),
sold AS
(
    SELECT
        shop_id, item_id,
        max(line_category) AS category,
        uniqExact(customer_id) AS buyers,
        uniqExactIf(customer_id, is_old) AS old_buyers,
        sumIf(net, is_main) AS revenue,
        sumIf(gross, is_main) AS revenue_before_discount,
        sumIf(discount, is_main) AS taken_off
    FROM
    (
        SELECT
            o.shop_id AS shop_id, o.customer_id AS customer_id,
            (o.shop_id, o.customer_id) IN (SELECT shop_id, customer_id FROM old_buyers_of) AS is_old,
            ifNull(o.currency = c.shop_currency, false) AS is_main,
            arrayJoin(o.lines) AS line,
            line.item_id AS item_id, line.category AS line_category,
            line.gross AS gross, line.discount AS discount, line.net AS net
        FROM in_cycle_orders AS o
        LEFT JOIN currencies AS c USING (shop_id)
    )
    GROUP BY shop_id, item_id
),
items AS
(
    SELECT
        shop_id, item_id,
        coalesce(maxIf(kind, source = 1), maxIf(kind, source = 2)) AS category,
        sum(v) AS visitors, sum(v_before) AS visitors_before, sum(b) AS bought, sum(n) AS new_visitors,
        sum(buying) AS buyers, sum(old) AS old_buyers,
        sum(net) AS revenue, sum(gross) AS before_discount, sum(discount) AS taken_off
    FROM
    (
        SELECT
            1 AS source, shop_id, item_id, category AS kind, visitors AS v, visitors_before AS v_before, bought AS b,
            new_visitors AS n, 0 AS buying, 0 AS old,
            toDecimal128(0, 4) AS net, toDecimal128(0, 4) AS gross, toDecimal128(0, 4) AS discount
        FROM traffic
        UNION ALL
        SELECT
            2, shop_id, item_id, category, 0, 0, 0, 0, buyers, old_buyers,
            revenue, revenue_before_discount, taken_off
        FROM sold
    )
    GROUP BY shop_id, item_id
    HAVING visitors > 0 OR buyers > 0
),
drawn AS
(
    SELECT
        *,
        {min_visitors:UInt32} AS m,
        visitors >= m AS has_support,
        countIf(has_support) OVER shop AS supported,
        has_support AND supported >= 4 AS is_rated,
        sum(visitors) OVER shop AS of_shop,
        round((bought + m * sum(bought) OVER shop / of_shop) / (visitors + m), 9) AS x_conversion,
        round((new_visitors + m * sum(new_visitors) OVER shop / of_shop) / (visitors + m), 9) AS x_new,
        round(
            (toFloat64(revenue) + m * toFloat64(sum(revenue) OVER shop) / of_shop) / (visitors + m), 9
        ) AS x_revenue,
        if(before_discount > 0, taken_off, sum(taken_off) OVER shop) AS less,
        if(before_discount > 0, before_discount, sum(before_discount) OVER shop) AS of_gross,
        if(of_gross > 0, round(toFloat64(less) / toFloat64(of_gross), 9), 0) AS x_discount,
        round(
            (old_buyers + 5 * sum(old_buyers) OVER shop / greatest(sum(buyers) OVER shop, 1)) / (buyers + 5), 9
        ) AS x_affinity,
        round((visitors + m) / (visitors_before + m), 9) AS x_growth
    FROM items
    WINDOW shop AS (PARTITION BY shop_id)
),
ranked AS
(
    SELECT
        *,
        greatest(count() OVER (PARTITION BY shop_id, is_rated) - 1, 1) AS others,
        -- How many are below, and how many are not above, as a share of the others: half their sum.
        (rank() OVER by_visitors + count() OVER by_visitors - 2) / (2 * others) AS r_visitors,
        (rank() OVER by_new + count() OVER by_new - 2) / (2 * others) AS r_new,
        (rank() OVER by_discount + count() OVER by_discount - 2) / (2 * others) AS r_discount,
        (rank() OVER by_revenue + count() OVER by_revenue - 2) / (2 * others) AS r_revenue,
        (rank() OVER by_affinity + count() OVER by_affinity - 2) / (2 * others) AS r_affinity,
        (rank() OVER by_conversion + count() OVER by_conversion - 2) / (2 * others) AS r_conversion,
        (rank() OVER by_growth + count() OVER by_growth - 2) / (2 * others) AS r_growth
    FROM drawn
    WINDOW
        by_visitors AS (PARTITION BY shop_id, is_rated ORDER BY visitors),
        by_new AS (PARTITION BY shop_id, is_rated ORDER BY x_new),
        by_discount AS (PARTITION BY shop_id, is_rated ORDER BY x_discount),
        by_revenue AS (PARTITION BY shop_id, is_rated ORDER BY x_revenue),
        by_affinity AS (PARTITION BY shop_id, is_rated ORDER BY x_affinity),
        by_conversion AS (PARTITION BY shop_id, is_rated ORDER BY x_conversion),
        by_growth AS (PARTITION BY shop_id, is_rated ORDER BY x_growth)
)
SELECT
    r.shop_id AS shop_id,
    r.item_id AS item_id,
    r.category AS category,
    multiIf(
        NOT r.is_rated, 'unrated',
        profit_fits >= greatest(traffic_fits, potential_fits, 0.6), 'profit',
        traffic_fits >= greatest(potential_fits, 0.6), 'traffic',
        potential_fits >= 0.6, 'potential',
        'edge'
    ) AS role,
    r.visitors AS visitors,
    r.visitors_before AS visitors_before,
    r.bought AS bought,
    round(r.bought / nullIf(r.visitors, 0), 4) AS conversion,
    r.buyers AS buyers,
    c.shop_currency AS currency,
    r.revenue AS revenue,
    toDecimal128(r.revenue, 4) / nullIf(r.visitors, 0) AS revenue_per_visitor,
    round(toFloat64(r.taken_off) / nullIf(toFloat64(r.before_discount), 0), 4) AS discount_share,
    round(r.new_visitors / nullIf(r.visitors, 0), 4) AS new_visitor_share,
    round(r.old_buyers / nullIf(r.buyers, 0), 4) AS repeat_affinity,
    round(r.x_growth, 4) AS growth,
    if(r.is_rated, r.for_traffic, NULL) AS traffic_score,
    if(r.is_rated, r.for_profit, NULL) AS profit_score,
    if(r.is_rated, r.for_potential, NULL) AS potential_score
FROM
(
    SELECT
        *,
        round((2 * r_visitors + r_new + r_discount) / 4, 4) AS for_traffic,
        round((2 * r_revenue + 1 - r_discount + r_affinity) / 4, 4) AS for_profit,
        round((r_conversion + r_growth) / 2, 4) AS for_potential,
        if(r_visitors >= 0.5, for_traffic, 0) AS traffic_fits,
        if(r_revenue >= 0.5 AND revenue > 0, for_profit, 0) AS profit_fits,
        if(r_visitors < 0.5, for_potential, 0) AS potential_fits
    FROM ranked
) AS r
LEFT JOIN currencies AS c USING (shop_id)
ORDER BY shop_id, visitors DESC, item_id
LIMIT {limit:UInt32} BY shop_id
