-- Question: which shops are there?
-- Parameters: none.
-- Grain: one shop that there was a session in, by id; name is null where nobody has told it. Read without FINAL, which
--   tells verdicts apart, not shops.
SELECT s.shop_id AS shop_id, n.name AS name
FROM (SELECT DISTINCT shop_id FROM sessions) AS s
LEFT JOIN (SELECT shop_id, toNullable(name) AS name FROM shops FINAL) AS n ON n.shop_id = s.shop_id
ORDER BY shop_id
