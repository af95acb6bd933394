-- Grain: what is known of one shop. Read it with FINAL.
-- Writer: the sink, from the topic `shops`, of which each partition has every shop.
-- Engine: ReplacingMergeTree(version): what was said last stands. A handful of rows, so no partition; and no column of
--   that name, as a shop is of no one partition.
CREATE TABLE IF NOT EXISTS shops
(
    shop_id  String,
    name     String,
    zone     LowCardinality(String)           COMMENT 'IANA zone of its calendar',
    currency LowCardinality(Nullable(String)) COMMENT 'it reports in; null: the one it sells most in',
    version  UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY shop_id
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
