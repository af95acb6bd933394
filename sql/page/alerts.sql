-- Question: which alerts stand, or stood in a span of time, and what drives them?
-- Parameters: shop, one shop, or all if empty; kind, loss or pipeline; from_ms and to_ms, the span, ms since 1970 UTC.
-- Grain: one alert as it stands, those that fire first, then the latest. An empty shop_id is all shops together.
SELECT
    a.shop_id AS shop_id,
    a.status AS status,
    a.severity AS severity,
    a.signal AS signal,
    a.scope_value AS scope_value,
    toDateTime(a.began_at, 'UTC') AS began_at,
    toDateTime(a.resolved_at, 'UTC') AS resolved_at,
    a.observed AS observed,
    a.expected AS expected,
    a.lost AS lost,
    a.value_at_risk AS value_at_risk,
    arrayMap(c -> concat(c.1, ' ', c.2, ' ', toString(round(100 * c.5)), '%'), arraySlice(a.contributors, 1, 3)) AS drivers,
    a.summary AS summary
FROM alerts AS a FINAL
WHERE a.kind = {kind:String}
    AND ifNull(a.resolved_at, a.at) >= fromUnixTimestamp64Milli({from_ms:Int64})
    AND a.began_at < fromUnixTimestamp64Milli({to_ms:Int64})
    AND ({shop:String} = '' OR a.shop_id = {shop:String})
ORDER BY status = 'resolved', began_at DESC, shop_id, signal, scope_value
LIMIT 50
