-- Question: from which lifecycle stage to which did customers go, and why?
-- Parameters: shop, one shop, or all if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it.
-- Grain: one way from one stage to another and its cause, the most taken first. Who goes it twice counts once.
SELECT
    t.from_state AS from_stage,
    t.to_state AS to_stage,
    t.cause AS cause,
    uniqExact(t.shop_id, t.customer_id) AS customers
FROM transitions AS t FINAL
WHERE t.kind = 'stage'
    AND t.at >= fromUnixTimestamp64Milli({from_ms:Int64}) AND t.at < fromUnixTimestamp64Milli({to_ms:Int64})
    AND ({shop:String} = '' OR t.shop_id = {shop:String})
GROUP BY from_stage, to_stage, cause
ORDER BY customers DESC, from_stage, to_stage, cause
