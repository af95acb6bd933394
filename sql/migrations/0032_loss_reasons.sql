-- Grain: one lost session or lapse of a customer who is no bot, and why. For the marketplace's operator alone: the
--   evidence names a customer's order in a rival's shop.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over loss_reasons_with_bots, where the columns are explained.
CREATE OR REPLACE VIEW loss_reasons AS
SELECT * EXCEPT is_bot
FROM loss_reasons_with_bots
WHERE NOT is_bot;
