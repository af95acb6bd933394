-- Grain: one session of one customer in one shop, its newest verdict; a tombstone hides a session that was
--   absorbed by a merge. Read it with FINAL.
-- Writer: the sink, from the topic `sessions`.
-- Engine: ReplacingMergeTree(version, is_deleted): a re-sent or revised fact replaces, so at-least-once delivery
--   ends in one row. The order key is the identity (session_id is a digest of it) and the partition is taken from
--   it, because rows of one key in two partitions would never be replaced by one another.
CREATE TABLE IF NOT EXISTS sessions
(
    session_id     FixedString(32)                COMMENT 'xxh3-128, hex, of customer, shop and start',
    shop_id        String,
    customer_id    String,
    started_at     DateTime64(3, 'UTC'),
    ended_at       DateTime64(3, 'UTC'),
    outcome        LowCardinality(String)         COMMENT 'converted or lost',
    lost_stage     LowCardinality(Nullable(String)) COMMENT 'bounced, browsed, favorited or carted; null when converted',
    events         UInt32,
    visits         UInt32,
    favorites      UInt32,
    carts          UInt32,
    cart_value     Decimal(38, 4)                 COMMENT 'of the lines standing at close, in currency',
    currency       LowCardinality(Nullable(String)),
    mixed_currency Bool,
    orders         UInt32                         COMMENT 'not fully reversed',
    revenue        Decimal(38, 4),
    recovered      Bool,
    recovered_at   Nullable(DateTime64(3, 'UTC')),
    recovered_by   Nullable(String)               COMMENT 'order_id',
    landing_item   Nullable(String),
    channel        LowCardinality(Nullable(String)),
    campaign       LowCardinality(Nullable(String)),
    is_bot         Bool,
    version        UInt64,
    is_deleted     UInt8,
    partition      UInt32                         COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(started_at)
ORDER BY (shop_id, started_at, customer_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
