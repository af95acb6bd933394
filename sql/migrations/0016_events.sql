-- Grain: as it was: one valid input event, by (topic, shop, customer, event_id).
-- Writer: the sink, from the input topics, `feedback` among them, when events are stored at all.
-- Engine: as it was. Two columns more, that only feedback fills.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS rating Nullable(UInt8) COMMENT 'of a review, 5 the best' AFTER cart_id,
    ADD COLUMN IF NOT EXISTS reply_ms Nullable(UInt64) COMMENT 'of a reply: how long the customer waited' AFTER rating;
