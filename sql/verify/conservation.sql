-- What was counted, what is stored, and how many rows the raw events have, by input topic-partition.
SELECT
    topic, partition, received, applied, duplicate, late, rejected, unaccounted,
    stored_applied, stored_late, stored_rejected
FROM conservation
ORDER BY topic, partition
