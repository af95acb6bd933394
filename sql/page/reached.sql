-- Question: up to which moment has everything been read?
-- Parameters: none.
-- Grain: one row: ms since 1970 UTC of the partition that is furthest behind; null if nothing has been read yet.
SELECT toUnixTimestamp64Milli(minOrNull(w.reached)) AS reached_ms
FROM
(
    SELECT max(watermark) AS reached FROM ingest FINAL
    WHERE toUnixTimestamp64Milli(watermark) > 0
    GROUP BY partition
) AS w
