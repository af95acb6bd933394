-- How far each partition is known. It never goes backwards, so the highest that was ever told is the newest.
watermarks AS
(
    SELECT partition, max(toUnixTimestamp64Milli(watermark)) AS told_ms FROM ingest GROUP BY partition
)
