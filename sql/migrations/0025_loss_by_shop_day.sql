-- Grain: one shop and day of its calendar, by the sessions that start on it. Plain columns leave bots out,
--   *_with_bots have them in.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over sessions FINAL. value_at_risk maps currency to amount, because amounts of different
--   currencies are never added. It replaces the one before it, whose days were of UTC.
CREATE OR REPLACE VIEW loss_by_shop_day AS
SELECT
    s.shop_id AS shop_id,
    s.day AS day,
    countIf(NOT s.is_bot) AS sessions,
    countIf(s.outcome = 'converted' AND NOT s.is_bot) AS converted,
    countIf(s.outcome = 'lost' AND NOT s.is_bot) AS lost,
    countIf(s.lost_stage = 'bounced' AND NOT s.is_bot) AS bounced,
    countIf(s.lost_stage = 'browsed' AND NOT s.is_bot) AS browsed,
    countIf(s.lost_stage = 'favorited' AND NOT s.is_bot) AS favorited,
    countIf(s.lost_stage = 'carted' AND NOT s.is_bot) AS carted,
    countIf(s.recovered AND NOT s.is_bot) AS recovered,
    lost / nullIf(sessions, 0) AS loss_rate,
    sumMapIf(
        map(ifNull(s.currency, ''), s.cart_value),
        s.outcome = 'lost' AND isNotNull(s.currency) AND NOT s.is_bot
    ) AS value_at_risk,
    count() AS sessions_with_bots,
    countIf(s.outcome = 'converted') AS converted_with_bots,
    countIf(s.outcome = 'lost') AS lost_with_bots,
    countIf(s.lost_stage = 'bounced') AS bounced_with_bots,
    countIf(s.lost_stage = 'browsed') AS browsed_with_bots,
    countIf(s.lost_stage = 'favorited') AS favorited_with_bots,
    countIf(s.lost_stage = 'carted') AS carted_with_bots,
    countIf(s.recovered) AS recovered_with_bots,
    lost_with_bots / sessions_with_bots AS loss_rate_with_bots,
    sumMapIf(
        map(ifNull(s.currency, ''), s.cart_value),
        s.outcome = 'lost' AND isNotNull(s.currency)
    ) AS value_at_risk_with_bots
FROM sessions AS s FINAL
GROUP BY shop_id, day;
