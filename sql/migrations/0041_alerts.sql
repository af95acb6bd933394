-- Grain: one alert, as it stands: from the minute in which it began until it is resolved. Read it with FINAL.
-- Writer: the sink, from the topic `alerts`.
-- Engine: ReplacingMergeTree(version, is_deleted): a later revision replaces. alert_id is a digest of the shop, signal,
--   series and beginning, so that the month of began_at never moves.
CREATE TABLE IF NOT EXISTS alerts
(
    alert_id      FixedString(32)             COMMENT 'xxh3-128, hex; with the version the key by which hooks repeat themselves',
    kind          LowCardinality(String)      COMMENT 'loss: customers leave; pipeline: the data is in doubt',
    shop_id       String                      COMMENT 'empty: all shops',
    scope         LowCardinality(String)      COMMENT 'shop, channel or stage',
    scope_value   String                      COMMENT 'the channel or stage; of a pipeline alert the topic',
    signal        LowCardinality(String)      COMMENT 'loss_rate, lost_count, drift, orders_per_cart, lag, silent_topic, schema_errors or bot_burst',
    status        LowCardinality(String)      COMMENT 'firing, held or resolved',
    severity      LowCardinality(String)      COMMENT 'warning or critical',
    rule          LowCardinality(String)      COMMENT 'of alerts.yaml',
    began_at      DateTime64(3, 'UTC')        COMMENT 'start of the first minute out of its band',
    at            DateTime64(3, 'UTC')        COMMENT 'end of the minute that this revision was made by',
    resolved_at   Nullable(DateTime64(3, 'UTC')),
    observed      Nullable(Float64),
    expected      Nullable(Float64),
    band          Nullable(Float64)           COMMENT 'the limit that observed is beyond',
    sessions      UInt64                      COMMENT 'closed since began_at',
    lost          UInt64                      COMMENT 'of these, lost',
    value_at_risk Map(String, Decimal(38, 4)) COMMENT 'of the carts lost since, by currency',
    contributors  Array(Tuple(dimension String, value String, observed Float64, expected Float64, share Float64)) COMMENT 'what drives it, greatest share of the loss beyond the expected first',
    held_by       Array(String)               COMMENT 'signals of the pipeline alerts that hold it back',
    summary       String                      COMMENT 'one line for a person',
    version       UInt64                      COMMENT 'the revision that hooks send',
    is_deleted    UInt8,
    partition     UInt32                      COMMENT 'of the shop'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(began_at)
ORDER BY (shop_id, alert_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
