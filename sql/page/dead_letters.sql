-- Question: which records were refused, and why?
-- Parameters: none.
-- Grain: one topic and reason, the most first, with the latest detail.
SELECT
    d.reason AS reason,
    d.topic AS topic,
    count() AS records,
    toDateTime(max(d.arrived_at), 'UTC') AS latest,
    argMax(d.detail, (d.arrived_at, d.offset)) AS detail
FROM dead_letters AS d FINAL
GROUP BY reason, topic
ORDER BY records DESC, reason, topic
