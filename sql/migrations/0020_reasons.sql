-- Grain: why one session was lost, or why one buyer lapsed; a tombstone hides a loss that is none any more. Read it
--   with FINAL.
-- Writer: the sink, from the topic `reasons`.
-- Engine: ReplacingMergeTree(version, is_deleted): a reason told again replaces. reason_id is a digest of kind and
--   subject_id. No partition: a session's end and a transition's moment may still move.
CREATE TABLE IF NOT EXISTS reasons
(
    reason_id   FixedString(32)                  COMMENT 'xxh3-128, hex, of kind and subject_id',
    kind        LowCardinality(String)           COMMENT 'session or lapse',
    subject_id  FixedString(32)                  COMMENT 'session_id, or transition_id',
    shop_id     String,
    customer_id String,
    at          DateTime64(3, 'UTC')             COMMENT 'the session''s end, or when the stage began',
    day         Date32                           COMMENT 'of the shop''s calendar',
    category    LowCardinality(Nullable(String)) COMMENT 'that it is about',
    reason      LowCardinality(String)           COMMENT 'the one that scores most; unknown if none scores enough',
    score       Float64                          COMMENT 'of reason; 0 for unknown',
    scores      Map(String, Float64)             COMMENT 'of each reason that has any evidence',
    evidence    Map(String, String)              COMMENT 'what the scores rest on',
    is_bot      Bool,
    version     UInt64,
    is_deleted  UInt8,
    partition   UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (shop_id, kind, reason_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
