-- Grain: one customer in one shop, their newest profile; a tombstone hides one of whom nothing is left. Read it with
--   FINAL.
-- Writer: the sink, from the topic `customers`.
-- Engine: ReplacingMergeTree(version, is_deleted): a profile told again replaces, so at-least-once delivery ends in
--   one row. No partition: nothing of the identity bounds what a question reads, and a shop's customers lie together.
CREATE TABLE IF NOT EXISTS customers
(
    shop_id             String,
    customer_id         String,
    as_of               Date32                           COMMENT 'shop-local day it was drawn up on; told again only when more than the day has changed',
    stage               LowCardinality(String)           COMMENT 'prospect, new, active, lapsing, lapsed or won_back',
    stage_since         Nullable(DateTime64(3, 'UTC')),
    tier                LowCardinality(Nullable(String)) COMMENT 'by r_score, f_score and m_score; null while the shop has no cut points',
    r_score             Nullable(UInt8)                  COMMENT 'quintile by recency, 5 the latest',
    f_score             Nullable(UInt8)                  COMMENT 'quintile by purchase days',
    m_score             Nullable(UInt8)                  COMMENT 'quintile by net revenue in currency',
    p_alive             Nullable(Float64)                COMMENT 'chance of ever buying again',
    p_return_90d        Nullable(Float64)                COMMENT 'chance of buying in the 90 days from as_of',
    expected_orders_90d Nullable(Float64),
    next_order_on       Nullable(Date32)                 COMMENT 'by then half of such buyers buy again',
    overdue_days        Nullable(UInt32)                 COMMENT 'as_of less next_order_on, where positive; so it ages with as_of',
    usual_gap_days      Nullable(Float64)                COMMENT 'mean between purchase days',
    first_order_at      Nullable(DateTime64(3, 'UTC')),
    last_order_at       Nullable(DateTime64(3, 'UTC')),
    first_order_on      Nullable(Date32),
    last_order_on       Nullable(Date32),
    purchase_days       UInt32                           COMMENT 'the frequency: days with an order that was not fully reversed',
    orders              UInt32                           COMMENT 'not fully reversed',
    reversed_orders     UInt32                           COMMENT 'fully cancelled or refunded',
    recency_days        Nullable(UInt32)                 COMMENT 'as_of less last_order_on; so it ages with as_of',
    monetary            Decimal(38, 4)                   COMMENT 'net revenue in currency',
    average_order_value Decimal(38, 4),
    currency            LowCardinality(Nullable(String)) COMMENT 'of most orders',
    mixed_currency      Bool                             COMMENT 'orders in others stand, and are not in the sums',
    preferred_categories Array(String)                   COMMENT 'at most three, most bought first',
    price_band          Nullable(UInt8)                  COMMENT 'quintile of the mean unit price, 5 the dearest',
    discount_affinity   Nullable(Float64)                COMMENT 'share of orders with a discount',
    visits_30d          UInt32,
    favorites_30d       UInt32,
    carts_30d           UInt32,
    visits_90d          UInt32,
    favorites_90d       UInt32,
    carts_90d           UInt32,
    last_seen_at        Nullable(DateTime64(3, 'UTC')),
    model_version       UInt64                           COMMENT 'of the shop''s lapse model; 0 is the one built in',
    version             UInt64,
    is_deleted          UInt8,
    partition           UInt32                           COMMENT 'of the customer, in every topic'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (shop_id, customer_id)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
