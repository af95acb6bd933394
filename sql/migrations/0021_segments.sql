-- Grain: one customer who is or was in one segment of one shop, as of their latest entering or leaving; a tombstone
--   hides one of a segment, or a customer, that is gone. Read it with FINAL.
-- Writer: the sink, from the topic `segments`.
-- Engine: ReplacingMergeTree(version, is_deleted): the later telling replaces. No partition: nothing of the identity
--   bounds what a question reads, and a segment's members lie together.
CREATE TABLE IF NOT EXISTS segments
(
    segment       LowCardinality(String),
    shop_id       String,
    customer_id   String,
    is_member     Bool                   COMMENT 'entered; false: left',
    at            DateTime64(3, 'UTC')   COMMENT 'event time from which on it is so',
    cause         LowCardinality(String) COMMENT 'event, time or rules',
    rules_version UInt64,
    version       UInt64,
    is_deleted    UInt8,
    partition     UInt32                 COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (shop_id, segment, customer_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
