-- Grain: one shop, day of its calendar, kind (session or lapse) and reason. Plain columns leave bots out; *_with_bots
--   have them in. Nobody's single purchase shows, so that a seller may see it.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over loss_reasons_with_bots. score: the mean.
CREATE OR REPLACE VIEW loss_reasons_by_shop_day AS
SELECT
    r.shop_id AS shop_id,
    r.day AS day,
    r.kind AS kind,
    r.reason AS reason,
    countIf(NOT r.is_bot) AS losses,
    uniqExactIf(r.customer_id, NOT r.is_bot) AS customers,
    round(avgOrNullIf(r.score, NOT r.is_bot), 4) AS score,
    count() AS losses_with_bots,
    uniqExact(r.customer_id) AS customers_with_bots,
    round(avg(r.score), 4) AS score_with_bots
FROM loss_reasons_with_bots AS r
GROUP BY shop_id, day, kind, reason;
