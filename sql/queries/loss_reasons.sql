-- Question: why were visitors lost, and why do buyers lapse?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; since and until, the
--   first and the last day.
-- Grain: one kind of loss (session or lapse) and reason in one shop, the most frequent first. share is of the shop's
--   losses of that kind. value_at_risk maps currency to the value of carts that stood; of a lapse it is empty.
--   Bots stand in the last column alone.
SELECT
    r.shop_id AS shop_id,
    r.kind AS kind,
    r.reason AS reason,
    countIf(NOT r.is_bot) AS losses,
    uniqExactIf(r.customer_id, NOT r.is_bot) AS customers,
    round(losses / nullIf(sum(losses) OVER (PARTITION BY shop_id, kind), 0), 4) AS share,
    round(avgOrNullIf(r.score, NOT r.is_bot), 2) AS mean_score,
    sumMapIf(map(ifNull(s.currency, ''), s.cart_value), s.cart_value > 0 AND NOT r.is_bot) AS value_at_risk,
    countIf(r.is_bot) AS losses_of_bots
FROM loss_reasons_with_bots AS r
LEFT JOIN
(
    SELECT session_id, currency, cart_value
    FROM sessions FINAL
    WHERE outcome = 'lost' AND ({shop:String} = '' OR shop_id = {shop:String})
) AS s ON s.session_id = r.subject_id
WHERE r.day BETWEEN {since:Date32} AND {until:Date32} AND ({shop:String} = '' OR r.shop_id = {shop:String})
    AND ({guests:String} = '' OR NOT startsWith(r.customer_id, {guests:String}))
GROUP BY shop_id, kind, reason
ORDER BY shop_id, kind, losses DESC, reason
