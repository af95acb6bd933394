-- Question: which alerts were there, and what drove them?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day they began on, UTC; kind, loss
--   or pipeline, or both if empty.
-- Grain: one alert, as it stands. An empty shop_id is all shops together. minutes is how long it has stood; drivers are
--   the greatest contributors, each with its share of what is lost beyond the expected.
SELECT
    a.shop_id AS shop_id,
    a.began_at AS began_at,
    a.kind AS kind,
    a.signal AS signal,
    a.scope AS scope,
    a.scope_value AS scope_value,
    a.status AS status,
    a.severity AS severity,
    a.resolved_at AS resolved_at,
    dateDiff('minute', a.began_at, ifNull(a.resolved_at, a.at)) AS minutes,
    a.observed AS observed,
    a.expected AS expected,
    a.lost AS lost,
    a.sessions AS sessions,
    a.value_at_risk AS value_at_risk,
    arrayMap(c -> concat(c.1, ' ', c.2, ' ', toString(round(100 * c.5)), '%'), a.contributors) AS drivers,
    a.held_by AS held_by,
    a.summary AS summary
FROM alerts AS a FINAL
WHERE toDate32(a.began_at, 'UTC') BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR a.shop_id = {shop:String})
    AND ({kind:String} = '' OR a.kind = {kind:String})
ORDER BY shop_id, began_at, signal, scope, scope_value
