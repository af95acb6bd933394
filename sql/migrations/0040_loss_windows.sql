-- Grain: one minute of event time of one series: a shop (an empty shop_id is all of them together), a channel of it, or
--   a lost stage. A session counts in the minute in which it closes. A minute is told again while sessions of it are
--   corrected, for an hour; what is corrected later is in the rollups of `sessions`. Read it with FINAL.
-- Writer: the sink, from the topic `loss-windows`.
-- Engine: ReplacingMergeTree(version, is_deleted): a minute told again replaces. Partitioned by month of the minute,
--   which is part of the identity.
CREATE TABLE IF NOT EXISTS loss_windows
(
    shop_id                  String                             COMMENT 'empty: all shops',
    scope                    LowCardinality(String)             COMMENT 'shop, channel or stage',
    scope_value              String                             COMMENT 'the channel or stage; empty of a whole shop',
    minute                   DateTime64(3, 'UTC')               COMMENT 'its start, event time',
    closed                   UInt32                             COMMENT 'sessions closed, without bots',
    lost                     UInt32                             COMMENT 'of these, lost; of a stage, at it',
    bots                     UInt32                             COMMENT 'sessions of bots closed; of a whole shop',
    value_at_risk            Map(String, Decimal(38, 4))        COMMENT 'of the carts lost, by currency',
    active_carts             UInt32                             COMMENT 'customers who changed their cart in it; of a whole shop',
    orders                   UInt32                             COMMENT 'placed in it; of a whole shop',
    observed                 Nullable(Float64)                  COMMENT 'loss rate of the minutes judged together',
    expected                 Nullable(Float64)                  COMMENT 'that rate, as expected then',
    band                     Nullable(Float64)                  COMMENT 'above it the rate is out of the ordinary',
    expected_lost            Nullable(Float64)                  COMMENT 'of this minute',
    orders_per_cart          Nullable(Float64)                  COMMENT 'of the minutes judged together',
    expected_orders_per_cart Nullable(Float64),
    band_orders_per_cart     Nullable(Float64)                  COMMENT 'below it it is out of the ordinary',
    verdict                  LowCardinality(String)             COMMENT 'learning, within, pending, firing or held',
    version                  UInt64,
    is_deleted               UInt8,
    partition                UInt32                             COMMENT 'of the shop, in loss-windows and alerts'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(minute)
ORDER BY (shop_id, scope, scope_value, minute)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
