-- Grain: one shop and hour (UTC) of session starts. Plain columns leave bots out; *_with_bots have them in.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over sessions FINAL. value_at_risk maps currency to amount, because amounts of different
--   currencies are never added.
CREATE VIEW IF NOT EXISTS loss_by_shop_hour AS
SELECT
    s.shop_id AS shop_id,
    toStartOfHour(s.started_at) AS hour,
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
GROUP BY shop_id, hour;
