-- Grain: one order elsewhere of what a visitor had looked at in a shop, and bought nothing there that day; a tombstone
--   hides one that no longer is. Read it with FINAL. For the marketplace's operator alone: each row is one buyer's
--   order in a rival's shop. What a seller may see is `leak_destinations`.
-- Writer: the sink, from the topic `leaks`.
-- Engine: ReplacingMergeTree(version, is_deleted): a leak told again replaces. leak_id is a digest of customer, both
--   shops and order. No partition: a late look moves the day, and a late event the order's time, so that no time is
--   part of the identity.
CREATE TABLE IF NOT EXISTS leaks
(
    leak_id     FixedString(32)                  COMMENT 'xxh3-128, hex, of customer, shop, other shop and order',
    shop_id     String                           COMMENT 'that lost the visitor',
    customer_id String,
    day         Date32                           COMMENT 'of the visit, in the calendar of shop_id',
    seen_at     DateTime64(3, 'UTC')             COMMENT 'the last look at what was then bought elsewhere',
    item_ids    Array(String)                    COMMENT 'looked at here',
    categories  Array(String)                    COMMENT 'that match',
    intent      LowCardinality(Nullable(String)) COMMENT 'cart or favorite: the deepest shown here for one of item_ids; null: only looked',
    to_shop_id  String,
    order_id    String                           COMMENT 'in to_shop_id',
    ordered_at  DateTime64(3, 'UTC'),
    to_item_ids Array(String)                    COMMENT 'of the matching lines',
    pieces      UInt64                           COMMENT 'of the matching lines',
    amount      Decimal(38, 4)                   COMMENT 'net of the matching lines, less refunds, in currency',
    currency    LowCardinality(Nullable(String)),
    price_here  Nullable(Decimal(38, 4))         COMMENT 'the lowest told here of a matching item',
    price_there Nullable(Decimal(38, 4))         COMMENT 'mean of a piece there, as ordered',
    is_bot      Bool                             COMMENT 'of the customer''s day in shop_id',
    version     UInt64,
    is_deleted  UInt8,
    partition   UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (shop_id, to_shop_id, leak_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
