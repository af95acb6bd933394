-- Grain: one customer who is in one segment of one shop now, and since when.
-- Writer: none; it is computed when read, so that who leaves is gone at once.
-- Engine: a view over segments FINAL.
CREATE OR REPLACE VIEW segment_members AS
SELECT
    s.shop_id AS shop_id,
    s.segment AS segment,
    s.customer_id AS customer_id,
    s.at AS since,
    s.cause AS cause,
    s.rules_version AS rules_version
FROM segments AS s FINAL
WHERE s.is_member;
