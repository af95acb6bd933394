-- Question: from which lifecycle stage to which do customers go, and why?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; zone, of the shops'
--   days; since and until, the first and the last day.
-- Grain: one shop, day, way from one stage to another, and cause.
SELECT
    shop_id,
    toDate32(at, {zone:String}) AS day,
    from_state,
    to_state,
    cause,
    uniqExact(customer_id) AS customers
FROM transitions FINAL
WHERE kind = 'stage'
    AND ({shop:String} = '' OR shop_id = {shop:String})
    AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
    AND toDate32(at, {zone:String}) BETWEEN {since:Date32} AND {until:Date32}
GROUP BY shop_id, day, from_state, to_state, cause
ORDER BY shop_id, day, from_state, to_state, cause
