-- Grain: one change of a customer's lifecycle stage, or tier, in one shop; a tombstone hides one that did not happen
--   after all. Read it with FINAL.
-- Writer: the sink, from the topic `transitions`.
-- Engine: ReplacingMergeTree(version, is_deleted): a revised transition replaces. The order key is the identity
--   (transition_id is a digest of it) and the partition is taken from it: the anchor never changes, while a late order
--   moves `at`. By years, because silence is told of orders of any month of the year before.
CREATE TABLE IF NOT EXISTS transitions
(
    transition_id  FixedString(32)                  COMMENT 'xxh3-128, hex, of customer, shop, kind, anchor and, of a stage, to_state',
    kind           LowCardinality(String)           COMMENT 'stage or tier',
    shop_id        String,
    customer_id    String,
    anchor         DateTime64(3, 'UTC')             COMMENT 'of a stage: the order that began the episode; of a tier: the start of the day',
    at             DateTime64(3, 'UTC')             COMMENT 'when it happened; silence counts from the start of a shop-local day',
    from_state     LowCardinality(Nullable(String)),
    to_state       LowCardinality(Nullable(String)),
    cause          LowCardinality(String)           COMMENT 'order, overdue, silence, refund or model',
    p_alive        Nullable(Float64)                COMMENT 'on that day; null of an order and of a tier',
    p_return_90d   Nullable(Float64),
    overdue_days   Nullable(UInt32)                 COMMENT 'past the expected next order, then',
    usual_gap_days Nullable(Float64),
    model_version  UInt64,
    version        UInt64,
    is_deleted     UInt8,
    partition      UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYear(anchor)
ORDER BY (shop_id, kind, anchor, transition_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
