-- Question: what became of what hooks had to send?
-- Parameters: none.
-- Grain: one endpoint and outcome: waiting, delivered, dead or cancelled; with its last error.
SELECT
    d.endpoint AS endpoint,
    d.status AS status,
    count() AS deliveries,
    sum(d.attempts) AS attempts,
    toDateTime(max(d.at), 'UTC') AS latest,
    argMaxIf(d.error, d.at, isNotNull(d.error) AND isNotNull(d.at)) AS error
FROM deliveries AS d FINAL
GROUP BY endpoint, status
ORDER BY endpoint, status
