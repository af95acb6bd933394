-- Grain: one category and hour (UTC) in which customers bought it elsewhere after looking in a shop that then lost them;
--   and how many do that usually. Without bots.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over leaks FINAL. An order is one move, however many shops it left. movers: different customers in this
--   hour and the two before and after it. usual: what these five hours would have at the rate of the week before them,
--   or of as much of it as the first move of any category lies back; null where that is less than a day. A category
--   has surged when it has 5 movers beside oneself, and 3 times what is usual.
CREATE OR REPLACE VIEW moves_by_hour AS
WITH
moves AS
(
    SELECT DISTINCT
        customer_id,
        to_shop_id,
        order_id,
        arrayJoin(categories) AS moved,
        -- Signed: hours are subtracted.
        toInt64(intDiv(toUnixTimestamp(ordered_at), 3600)) AS hour
    FROM leaks FINAL
    WHERE NOT is_bot
),
hours AS
(
    SELECT moved, hour, count() AS moves, uniqExactState(customer_id) AS who
    FROM moves
    GROUP BY moved, hour
),
around AS
(
    SELECT
        moved,
        hour,
        moves,
        uniqExactMerge(who) OVER (PARTITION BY moved ORDER BY hour RANGE BETWEEN 2 PRECEDING AND 2 FOLLOWING) AS movers,
        sum(moves) OVER (PARTITION BY moved ORDER BY hour RANGE BETWEEN 170 PRECEDING AND 3 PRECEDING) AS before,
        least(168, hour - 2 - min(hour) OVER ()) AS known
    FROM hours
)
SELECT
    moved AS category,
    toDateTime(hour * 3600, 'UTC') AS hour,
    moves,
    movers,
    if(known >= 24, before * 5 / known, NULL) AS usual
FROM around;
