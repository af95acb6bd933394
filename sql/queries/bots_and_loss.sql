-- Question: how much of the loss is of machines, and what gave them away?
-- Parameters: shop, one shop, or all if empty; since and until, the first and the last day, of the shop's calendar;
--   by_day, whether each day has a row of its own.
-- Grain: one shop, and one day if by_day; where not told apart day is null. closed counts sessions, without those of
--   machines; *_with_bots have them in. bots counts these: told by the events themselves, by the user agent, by looks
--   with no time between them (no_dwell), or by more looks a minute than a person keeps up (rate); the first sign counts.
SELECT
    s.shop_id AS shop_id,
    if({by_day:Bool}, toNullable(s.day), NULL) AS day,
    countIf(NOT s.is_bot) AS closed,
    countIf(s.outcome = 'lost' AND NOT s.is_bot) AS lost,
    countIf(s.lost_stage = 'bounced' AND NOT s.is_bot) AS bounced,
    countIf(s.lost_stage = 'carted' AND NOT s.is_bot) AS lost_after_cart,
    round(lost / nullIf(closed, 0), 6) AS loss_rate,
    count() AS closed_with_bots,
    countIf(s.outcome = 'lost') AS lost_with_bots,
    countIf(s.lost_stage = 'bounced') AS bounced_with_bots,
    countIf(s.lost_stage = 'carted') AS lost_after_cart_with_bots,
    round(lost_with_bots / closed_with_bots, 6) AS loss_rate_with_bots,
    countIf(s.is_bot) AS bots,
    countIf(s.bot_by = 'told') AS told,
    countIf(s.bot_by = 'user_agent') AS user_agent,
    countIf(s.bot_by = 'no_dwell') AS no_dwell,
    countIf(s.bot_by = 'rate') AS rate
FROM sessions AS s FINAL
WHERE s.day BETWEEN {since:Date32} AND {until:Date32} AND ({shop:String} = '' OR s.shop_id = {shop:String})
GROUP BY shop_id, day
ORDER BY shop_id, day
