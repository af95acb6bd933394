-- Question: why was one customer lost, and what was to be done?
-- Parameters: shop, one shop, or all if empty; customer, which.
-- Grain: one reason of a lost session or a lapse, one change of stage, or one action; the latest first.
--   The customer is part of what the ids are digests of, so that a row and its revisions have the same.
SELECT
    toDateTime(e.at, 'UTC') AS at,
    e.shop_id AS shop_id,
    e.kind AS kind,
    e.said AS said,
    e.evidence AS evidence
FROM
(
    SELECT at, shop_id, concat(kind, ' reason') AS kind, toString(reason) AS said, toString(evidence) AS evidence
    FROM reasons FINAL
    PREWHERE customer_id = {customer:String}
    WHERE {shop:String} = '' OR shop_id = {shop:String}
    UNION ALL
    SELECT at, shop_id, 'stage', concat(ifNull(from_state, ''), ' → ', ifNull(to_state, '')), cause
    FROM transitions FINAL
    PREWHERE customer_id = {customer:String}
    WHERE kind = 'stage' AND ({shop:String} = '' OR shop_id = {shop:String})
    UNION ALL
    SELECT at, shop_id, 'action', if(holdout, concat(kind, ' (holdout)'), toString(kind)), reason
    FROM actions FINAL
    PREWHERE customer_id = {customer:String}
    WHERE {shop:String} = '' OR shop_id = {shop:String}
) AS e
ORDER BY at DESC, shop_id, kind, said
LIMIT 100
