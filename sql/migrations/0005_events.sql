-- Grain: one valid input event, by (topic, shop, customer, event_id); the first to arrive stands. Read it with FINAL.
-- Writer: the sink, from the four input topics, when events are stored at all.
-- Engine: ReplacingMergeTree(precedence): precedence falls as the offset grows and a customer's events share one
--   topic-partition, so of several events with one id the first stands. Partitioned by customer, which is part of
--   the identity: a repeated event may carry any time, so no time may decide the partition; and verification
--   works through the partitions one by one in bounded memory.
CREATE TABLE IF NOT EXISTS events
(
    topic         LowCardinality(String),
    partition     UInt32,
    offset        UInt64,
    precedence    UInt64 MATERIALIZED bitNot(offset),
    event_id      String,
    id            UInt64                           COMMENT 'digest of topic and event id; breaks ties of time',
    action        LowCardinality(String)           COMMENT 'visit for visits',
    occurred_at   DateTime64(3, 'UTC'),
    arrived_at    DateTime64(3, 'UTC'),
    customer_id   String,
    shop_id       String,
    target        LowCardinality(Nullable(String)) COMMENT 'of a favorite: item or shop',
    item_id       Nullable(String),
    category      LowCardinality(Nullable(String)),
    quantity      Nullable(UInt32),
    price         Nullable(Decimal(18, 4)),
    currency      LowCardinality(Nullable(String)),
    order_id      Nullable(String),
    total         Nullable(Decimal(18, 4)),
    refund_amount Nullable(Decimal(18, 4)),
    lines         Array(Tuple(
                      item_id String,
                      category Nullable(String),
                      quantity UInt32,
                      price Nullable(Decimal(18, 4)),
                      discount Nullable(Decimal(18, 4)))),
    url           Nullable(String),
    channel       LowCardinality(Nullable(String)),
    referrer      Nullable(String),
    campaign      LowCardinality(Nullable(String)),
    user_agent    Nullable(String),
    is_bot        Bool,
    cart_id       Nullable(String)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY cityHash64(customer_id) % 8
ORDER BY (shop_id, customer_id, topic, event_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
