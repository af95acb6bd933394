-- Grain: one record whose row was deleted from `events` or `late_events`, or is not taken in any more, for its customer
--   was erased: its place on the broker and nothing else, so that what was counted stays accounted for. With FINAL.
-- Writer: the sink, before it deletes.
-- Engine: ReplacingMergeTree(precedence): like in `events`, of several records of one event the first stands; event
--   tells them apart by a digest. A record of `late_events` is told by its place.
CREATE TABLE IF NOT EXISTS erased_records
(
    of_table   LowCardinality(String),
    topic      LowCardinality(String),
    partition  UInt32,
    offset     UInt64,
    event      UInt64 COMMENT 'XXH3 64 of SHA-256 of customer_id, shop_id and event_id, NUL between; or the offset',
    precedence UInt64 MATERIALIZED bitNot(offset)
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (of_table, topic, partition, event)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
