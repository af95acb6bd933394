-- Grain: one input record that came behind the correction horizon, by its place on the broker. Read it with FINAL.
-- Writer: the sink, from the topic `late-events`.
-- Engine: ReplacingMergeTree without a version: every delivery of one record tells the same. The partition is the
--   month of arrival, which never changes for a record.
CREATE TABLE IF NOT EXISTS late_events
(
    topic       LowCardinality(String),
    partition   UInt32,
    offset      UInt64,
    event_id    String,
    customer_id String,
    shop_id     String,
    occurred_at DateTime64(3, 'UTC'),
    arrived_at  DateTime64(3, 'UTC'),
    watermark   DateTime64(3, 'UTC')  COMMENT 'what it came behind, by more than the horizon',
    body        String                COMMENT 'the original JSON'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (topic, partition, offset)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
