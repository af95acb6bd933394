-- Question: which day has ended last, with time for its last sessions to close?
-- Parameters: zone, of the shop's days; gap_ms, the silence that closes a session.
-- Grain: one row, or none while nothing has been read. `reached` is the watermark of the partition that lags most.
SELECT
    min(watermark_ms) AS reached,
    toDate32(fromUnixTimestamp64Milli(reached - {gap_ms:Int64}), {zone:String}) - 1 AS last_day
FROM
(
    SELECT toUnixTimestamp64Milli(max(watermark)) AS watermark_ms
    FROM ingest FINAL
    WHERE toUnixTimestamp64Milli(watermark) > 0
    GROUP BY partition
)
HAVING count() > 0
