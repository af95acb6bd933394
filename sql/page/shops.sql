-- Question: which shops are there?
-- Parameters: none.
-- Grain: one shop with a session, by id; name is null where nobody has told it.
SELECT s.shop_id AS shop_id, n.name AS name
FROM (SELECT DISTINCT shop_id FROM sessions FINAL) AS s
LEFT JOIN (SELECT shop_id, toNullable(name) AS name FROM shops FINAL) AS n ON n.shop_id = s.shop_id
ORDER BY shop_id
