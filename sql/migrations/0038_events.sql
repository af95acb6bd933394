-- Grain: as it was: one valid input event, by (topic, shop, customer, event_id).
-- Writer: the sink, from the input topics, `identities` among them, when events are stored at all.
-- Engine: as it was. One column more, that only identify events fill; of these shop_id is '' where all shops are meant.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS identified_as Nullable(String) COMMENT 'the customer that the guest customer_id is' AFTER reply_ms;
