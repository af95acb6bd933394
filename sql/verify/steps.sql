-- The changes of stage: (when, from, to, cause, days of silence).
steps AS
(
    SELECT
        customer_id, shop_id, its_partition, is_blurred, model, x, t_x, anchor, shape, scale, odds, expected_after,
        step.1 AS at, step.2 AS from_state, step.3 AS to_state, step.4 AS cause, step.5 AS silent
    FROM entered
    ARRAY JOIN arrayFilter(s -> s.6, [
        (anchor, stage_before, stage, 'order', 0, stage_before != stage),
        (overdue_ms, stage, 'lapsing', 'overdue', ifNull(lapsing_after, 0), is_lapsing),
        (silent_ms, if(is_lapsing, 'lapsing', stage), 'lapsed', 'silence', {lapsed_days:Int32}, has_lapsed)
    ]) AS step
)
