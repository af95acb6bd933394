-- Grain: one item that one customer looked at in one shop on one day of its calendar, and what they bought in its
--   place; a tombstone hides one that is none any more. Read it with FINAL.
-- Writer: the sink, from the topic `item-days`, of which a record has all items of a customer's day.
-- Engine: ReplacingMergeTree(version, is_deleted): a disposition that orders or refunds changed replaces. The day is
--   part of the identity, so months can be the partitions; an item's day lies together for `item_loss`.
CREATE TABLE IF NOT EXISTS item_days
(
    shop_id     String,
    day         Date32                           COMMENT 'of the shop''s calendar',
    item_id     String,
    customer_id String,
    category    LowCardinality(Nullable(String)) COMMENT 'as the day''s earliest event with one names it',
    disposition LowCardinality(String)           COMMENT 'bought_item, bought_similar, bought_other, bought_elsewhere or nothing; the best that is true',
    first_at    DateTime64(3, 'UTC')             COMMENT 'the first look on that day',
    visits      UInt32                           COMMENT 'looks on that day',
    favorited   Bool                             COMMENT 'on that day, whatever came after',
    carted      Bool                             COMMENT 'on that day, whatever came after',
    is_bot      Bool                             COMMENT 'of the customer''s day in the shop',
    version     UInt64,
    is_deleted  UInt8,
    partition   UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(day)
ORDER BY (shop_id, day, item_id, customer_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
