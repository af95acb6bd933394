-- Grain: one thing to do for one customer in one shop, or in the holdout group to leave undone; once per episode. A
--   tombstone hides one that was withdrawn. Read it with FINAL.
-- Writer: the sink, from the topic `actions`.
-- Engine: ReplacingMergeTree(version, is_deleted): an action told again replaces. The order key is the identity
--   (action_id is a digest of it) and the partition is taken from it: the anchor never changes. By years, because
--   winning back is about orders of any month of the year before.
CREATE TABLE IF NOT EXISTS actions
(
    action_id         FixedString(32)                  COMMENT 'xxh3-128, hex, of customer, shop, kind, category and anchor',
    kind              LowCardinality(String)           COMMENT 'repurchase_due, coupon_care or win_back',
    shop_id           String,
    customer_id       String,
    category          LowCardinality(Nullable(String)) COMMENT 'whose own rhythm makes it due; null: of the customer as a whole',
    anchor            DateTime64(3, 'UTC')             COMMENT 'the order that began the episode',
    at                DateTime64(3, 'UTC')             COMMENT 'when it became due',
    expected_on       Nullable(Date32)                 COMMENT 'the shop-local day of the expected next order',
    priority          UInt8                            COMMENT '1 first',
    holdout           Bool                             COMMENT 'to be left alone; drawn per customer, shop and kind',
    reason            String                           COMMENT 'one line for a person',
    stage             LowCardinality(String),
    p_alive           Nullable(Float64)                COMMENT 'when it became due',
    p_return_90d      Nullable(Float64),
    overdue_days      Nullable(UInt32)                 COMMENT 'past the expected next order, then',
    usual_gap_days    Nullable(Float64)                COMMENT 'mean between purchase days, or days with the category',
    discount_affinity Nullable(Float64)                COMMENT 'share of orders with a discount',
    model_version     UInt64,
    version           UInt64,
    is_deleted        UInt8,
    partition         UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYear(anchor)
ORDER BY (shop_id, kind, anchor, action_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
