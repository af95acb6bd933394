-- Grain: as it was: why one session was lost, or why one buyer lapsed.
-- Writer: the sink, from the topic `reasons`.
-- Engine: as it was. A digest does not compress, and FINAL reads all of them, whatever the days: as they are they are
--   read in a third of the time, for a quarter more on disk. Parts that are there change as they are merged.
ALTER TABLE reasons
    MODIFY COLUMN reason_id FixedString(32) COMMENT 'xxh3-128, hex, of kind and subject_id' CODEC(NONE);
