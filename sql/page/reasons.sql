-- Question: why were visitors lost, and why do buyers lapse?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day, of the shop's calendar.
-- Grain: one kind of loss (session or lapse) and reason, the most frequent first. share is of its kind. Bots are left out.
SELECT
    r.kind AS kind,
    r.reason AS reason,
    count() AS losses,
    uniqExact(r.customer_id) AS customers,
    losses / sum(losses) OVER (PARTITION BY kind) AS share,
    avg(r.score) AS score
FROM loss_reasons AS r
WHERE r.day BETWEEN {since:Date32} AND {until:Date32} AND ({shop:String} = '' OR r.shop_id = {shop:String})
GROUP BY kind, reason
ORDER BY kind, losses DESC, reason
