-- Question: why were visitors lost, and why do buyers lapse, by the evidence of each of them?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day, of the shop's calendar.
-- Grain: one kind of loss (session or lapse) and reason, the most frequent first. share is of its kind. Bots are left out.
--
-- It is own_reason of the view loss_reasons, which also sees whether peers moved in the same hours (market), and what
-- made a lapsed buyer lapse at first: that takes all leaks and all transitions, and seconds where there are millions.
SELECT
    r.kind AS kind,
    r.reason AS own_reason,
    count() AS losses,
    losses / sum(losses) OVER (PARTITION BY kind) AS share,
    avg(r.score) AS score
FROM reasons AS r FINAL
-- The table's key has no day, so FINAL would merge all there is. A session's day stays what it is but for a shop that
-- moves to another zone; a lapse's may move.
PREWHERE r.kind = 'lapse' OR r.day BETWEEN {since:Date32} - 2 AND {until:Date32} + 2
WHERE NOT r.is_bot
    AND r.day BETWEEN {since:Date32} AND {until:Date32}
    AND ({shop:String} = '' OR r.shop_id = {shop:String})
GROUP BY kind, own_reason
ORDER BY kind, losses DESC, own_reason
