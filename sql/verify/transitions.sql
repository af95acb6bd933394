-- What the stages' transitions must be by each partition's watermark: computed from the raw events in one batch, by
-- the definitions. Shares no code with the stream. One row a transition that stands, in the columns of `transitions`;
-- chances and the usual gap are not rounded.
--
-- Left out: `version`, which counts tellings and so depends on where batches end; transitions of tiers, which depend
-- on when each set of cut points came; those to stages that a shop's own model decides (`is_fitted`), because what
-- was told under an earlier one stands; and those of a buyer who stayed away for longer than buyers are remembered
-- (`is_blurred`): whether the stream had forgotten them by then depends on where batches end.
WITH
/* accepted.sql */,
/* orders.sql */,
/* buyers.sql */,
/* steps.sql */
SELECT
    -- hex leaves leading zeros out.
    leftPad(
        lower(hex(xxh3_128(concat(
            customer_id, '\0', shop_id, '\0stage\0', toString(anchor), '\0', to_state
        )))), 32, '0'
    ) AS transition_id,
    'stage' AS kind,
    shop_id,
    customer_id,
    anchor,
    at,
    from_state,
    to_state,
    cause,
    if(cause = 'order', NULL, 1 / (1 + odds * exp(shape * log1p(silent / scale)))) AS p_alive,
    p_alive * (1 - exp(-shape * log1p(90 / (scale + silent)))) AS p_return_90d,
    if(
        cause = 'order' OR isNull(expected_after), NULL, greatest(silent - assumeNotNull(expected_after), 0)
    ) AS overdue_days,
    if(x = 0, NULL, t_x / x) AS usual_gap_days,
    model.2 AS model_version,
    its_partition AS partition,
    is_blurred,
    model.2 > 0 AS is_fitted
FROM steps
