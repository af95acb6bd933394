-- Question: of all who ever bought in the shop, which share has lapsed, day by day, and how many crossed over and back?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; zone, of the shops'
--   days; since and until, the first and the last day; by_cohort, whether cohorts by the month of the first order have
--   rows beside the whole shop's.
-- Grain: one shop, cohort (null: the whole shop) and day, as it stands when the day ends.
--
-- Buyers lapse after 365 days without an order, or what EBBTIDE_LAPSED_AFTER says; the stream has found the moment.
-- `lapsed` counts who stands there, `crossed` and `returned` count what transitions claim, so that
-- lapsed(d) - lapsed(d - 1) = crossed(d) - returned(d) says something. `churn_crossings` names them.
WITH
buyers AS
(
    SELECT
        shop_id,
        arraySort(groupArray((at, anchor, assumeNotNull(from_state), assumeNotNull(to_state)))) AS steps,
        arrayMap(i -> if(i > 1, steps[i - 1].4, ''), arrayEnumerate(steps)) AS stages_before
    FROM transitions FINAL
    WHERE kind = 'stage' AND ({shop:String} = '' OR shop_id = {shop:String})
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
    GROUP BY shop_id, customer_id
),
-- What each step adds to the counts of its day: (day, buyers, lapsed, crossed, returned).
moves AS
(
    SELECT
        shop_id,
        toStartOfMonth(toDate32(steps[1].1, {zone:String})) AS first_month,
        arrayJoin(if({by_cohort:Bool}, [NULL, toNullable(first_month)], [NULL])) AS cohort,
        arrayJoin(arrayFilter(
            m -> m.2 != 0 OR m.3 != 0 OR m.4 != 0 OR m.5 != 0,
            arrayMap(
                (step, before) -> (
                    toDate32(step.1, {zone:String}),
                    toInt64(before = ''),
                    toInt64(step.4 = 'lapsed') - toInt64(before = 'lapsed'),
                    toInt64(step.4 = 'lapsed'),
                    -- A buyer who was forgotten and buys again is new to the stream, and had lapsed for us.
                    toInt64(if(step.3 = 'prospect', before, step.3) = 'lapsed')
                ),
                steps,
                stages_before
            )
        )) AS move
    FROM buyers
),
-- All that was before the first day counts as of the day before it.
by_day AS
(
    SELECT
        shop_id,
        cohort,
        greatest(move.1, {since:Date32} - 1) AS day,
        sum(move.2) AS new_buyers,
        sum(move.3) AS more_lapsed,
        sum(move.4) AS crossers,
        sum(move.5) AS returners
    FROM moves
    WHERE move.1 <= {until:Date32}
    GROUP BY shop_id, cohort, day
),
-- Each day that nothing happened on has a row too.
calendar AS
(
    SELECT
        shop_id,
        cohort,
        arrayJoin(arrayMap(
            n -> {since:Date32} - 1 + n,
            range(toUInt32(greatest(0, dateDiff('day', {since:Date32}, {until:Date32}) + 2)))
        )) AS day
    FROM (SELECT DISTINCT shop_id, cohort FROM by_day)
),
counted AS
(
    SELECT
        shop_id,
        cohort,
        day,
        sum(new_buyers) OVER so_far AS buyers,
        sum(more_lapsed) OVER so_far AS lapsed,
        crossers AS crossed,
        returners AS returned
    FROM
    (
        SELECT shop_id, cohort, day, 0 AS new_buyers, 0 AS more_lapsed, 0 AS crossers, 0 AS returners FROM calendar
        UNION ALL
        SELECT shop_id, cohort, day, new_buyers, more_lapsed, crossers, returners FROM by_day
    )
    WINDOW so_far AS (
        PARTITION BY shop_id, cohort ORDER BY day RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
)
SELECT
    shop_id,
    cohort,
    day,
    any(buyers) AS buyers,
    any(lapsed) AS lapsed,
    round(lapsed / buyers, 6) AS churn,
    sum(crossed) AS crossed,
    sum(returned) AS returned
FROM counted
WHERE day >= {since:Date32}
GROUP BY shop_id, cohort, day
HAVING buyers > 0
ORDER BY shop_id, cohort NULLS FIRST, day
