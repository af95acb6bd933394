-- Question: of the customers that an action was due for, how many bought afterwards, treated and in the holdout?
-- Parameters: shop, one shop, or all if empty; kind, one kind of action, or all if empty; within_s, the seconds after
--   it became due that an order counts in; asked_since, the day (UTC) from which actions are looked at.
-- Grain: one shop and kind. Counts are customers: the holdout is drawn by customer, so each counts once per kind, with
--   the first action there was; several of one customer would not be independent of one another.
--
-- A purchase is a session with an order that was not fully reversed, begun after the action became due: who was in the
-- shop already did not come because of it. `waiting` are those whose time is not over by the watermark.
WITH
asked AS
(
    SELECT
        shop_id,
        kind,
        customer_id,
        argMin((at, holdout, partition), (at, action_id)) AS first_asked
    FROM actions FINAL
    WHERE ({shop:String} = '' OR shop_id = {shop:String})
        AND ({kind:String} = '' OR kind = {kind:String})
        AND at >= toDateTime64({asked_since:Date32}, 3, 'UTC')
    GROUP BY shop_id, kind, customer_id
),
reached AS
(
    SELECT partition, max(watermark) AS watermark FROM ingest FINAL GROUP BY partition
),
bought AS
(
    SELECT shop_id, customer_id, groupArray(started_at) AS begun
    FROM sessions FINAL
    WHERE orders > 0
        AND ({shop:String} = '' OR shop_id = {shop:String})
        AND started_at >= toDateTime64({asked_since:Date32}, 3, 'UTC')
    GROUP BY shop_id, customer_id
),
judged AS
(
    SELECT
        a.shop_id AS shop_id,
        a.kind AS kind,
        a.first_asked.2 AS holdout,
        a.first_asked.1 + toIntervalSecond({within_s:UInt32}) AS ends_at,
        ends_at <= r.watermark AS is_over,
        arrayExists(t -> t > a.first_asked.1 AND t <= ends_at, b.begun) AS converted
    FROM asked AS a
    LEFT JOIN reached AS r ON r.partition = a.first_asked.3
    LEFT JOIN bought AS b ON b.shop_id = a.shop_id AND b.customer_id = a.customer_id
)
SELECT
    shop_id,
    kind,
    countIf(is_over AND NOT j.holdout) AS treated,
    countIf(is_over AND NOT j.holdout AND converted) AS treated_bought,
    countIf(is_over AND j.holdout) AS holdout,
    countIf(is_over AND j.holdout AND converted) AS holdout_bought,
    countIf(NOT is_over) AS waiting
FROM judged AS j
GROUP BY shop_id, kind
ORDER BY shop_id, kind
