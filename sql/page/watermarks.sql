-- Question: how far has each partition come?
-- Parameters: none.
-- Grain: one partition. watermark is what it has been read up to, of event time; behind_s is to the one furthest ahead.
SELECT
    w.partition AS partition,
    toDateTime(w.reached, 'UTC') AS watermark,
    dateDiff('second', w.reached, max(w.reached) OVER ()) AS behind_s
FROM
(
    SELECT partition, max(watermark) AS reached FROM ingest FINAL
    WHERE toUnixTimestamp64Milli(watermark) > 0
    GROUP BY partition
) AS w
ORDER BY partition
