-- Grain: one customer who was erased, by digest; nothing here names anybody. Read it with FINAL.
-- Writer: the sink, from the topic `erased`, before it deletes what the other tables have of the customer.
-- Engine: ReplacingMergeTree(at): erased again, later, is later. A sink that starts reads who must not come back.
CREATE TABLE IF NOT EXISTS erased
(
    customer_digest FixedString(64)      COMMENT 'SHA-256 of customer_id, in hexadecimal',
    erased_at       DateTime64(3, 'UTC') COMMENT 'events until then are gone',
    at              DateTime64(3, 'UTC') COMMENT 'facts that were sent until then are gone',
    partition       UInt32
)
ENGINE = ReplacingMergeTree(at)
ORDER BY customer_digest
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
