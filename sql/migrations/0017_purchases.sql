-- Grain: one order of one customer in one shop, as it stands; a tombstone hides one that is none any more. Read it with
--   FINAL.
-- Writer: the sink, from the topic `purchases`.
-- Engine: ReplacingMergeTree(version, is_deleted): an order amended replaces. No partition: an event that comes late
--   moves ordered_at, and with it the day, so that no time is part of the identity.
CREATE TABLE IF NOT EXISTS purchases
(
    shop_id     String,
    customer_id String,
    order_id    String,
    ordered_at  DateTime64(3, 'UTC')             COMMENT 'when it was placed, else first paid',
    day         Date32                           COMMENT 'of the shop''s calendar, that ordered_at lies in',
    total       Decimal(38, 4)                   COMMENT 'as ordered; refunds do not change it',
    refunded    Decimal(38, 4)                   COMMENT 'taken back since, at most total',
    is_reversed Bool                             COMMENT 'wholly cancelled or refunded',
    currency    LowCardinality(Nullable(String)),
    lines       Array(Tuple(
                    item_id String,
                    category Nullable(String),
                    quantity UInt32,
                    gross Decimal(38, 4),
                    discount Decimal(38, 4),
                    net Decimal(38, 4)))         COMMENT 'net: the line''s part of total less refunded; the parts add up exactly',
    version     UInt64,
    is_deleted  UInt8,
    partition   UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (shop_id, customer_id, order_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
