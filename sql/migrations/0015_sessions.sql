-- Grain: as it was: one session of one customer in one shop, its newest verdict.
-- Writer: the sink, from the topic `sessions`.
-- Engine: as it was. Two columns more, in one statement, so that they are there together or not at all. A session
--   stored before them has the day in UTC, and nothing that gave a bot away, until its fact is told again.
ALTER TABLE sessions
    ADD COLUMN IF NOT EXISTS day Date32 DEFAULT toDate32(started_at)
        COMMENT 'of the shop''s calendar, that started_at lies in' AFTER is_bot,
    ADD COLUMN IF NOT EXISTS bot_by LowCardinality(Nullable(String))
        COMMENT 'told, user_agent, rate or no_dwell; null where is_bot is false' AFTER day;
