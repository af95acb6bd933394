-- Grain: one message to one endpoint of hooks, as it stands. No payload. Read it with FINAL.
-- Writer: the sink, from the topic `deliveries`.
-- Engine: ReplacingMergeTree(version, is_deleted): each attempt replaces the one before. delivery_id is a digest of
--   endpoint and fact; when it was created is kept with it and never moves.
CREATE TABLE IF NOT EXISTS deliveries
(
    delivery_id FixedString(32)                COMMENT 'xxh3-128, hex, of endpoint, topic, subject and revision',
    endpoint    LowCardinality(String)         COMMENT 'its name in alerts.yaml',
    topic       LowCardinality(String)         COMMENT 'alerts, segments, transitions or actions',
    subject_id  FixedString(32)                COMMENT 'identity of the fact that is told',
    revision    UInt64                         COMMENT 'version of that fact',
    webhook_id  String                         COMMENT 'the idempotency key that the receiver sees',
    status      LowCardinality(String)         COMMENT 'waiting, delivered, dead or cancelled',
    attempts    UInt32,
    created_at  DateTime64(3, 'UTC')           COMMENT 'wall clock, as all times here',
    at          Nullable(DateTime64(3, 'UTC')) COMMENT 'of the last attempt',
    next_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'of the next one; null: none follows',
    http_status Nullable(UInt16)               COMMENT 'of the last answer',
    error       Nullable(String)               COMMENT 'one line; null where it went well',
    version     UInt64,
    is_deleted  UInt8,
    partition   UInt32
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(created_at)
ORDER BY (endpoint, delivery_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
