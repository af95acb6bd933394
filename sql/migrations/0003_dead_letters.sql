-- Grain: one refused record, by its place on the broker, with its bytes as they came. Read it with FINAL.
-- Writer: the sink, from the topic `dead-letters`.
-- Engine: ReplacingMergeTree without a version: every delivery of one record tells the same. The partition is the
--   month of arrival, which never changes for a record.
CREATE TABLE IF NOT EXISTS dead_letters
(
    topic      LowCardinality(String),
    partition  UInt32,
    offset     UInt64,
    reason     LowCardinality(String),
    detail     String,
    arrived_at DateTime64(3, 'UTC'),
    key        Nullable(String)  COMMENT 'raw bytes; null as on the broker',
    value      Nullable(String)  COMMENT 'raw bytes; null as on the broker'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (topic, partition, offset)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
