-- Grain: one input topic-partition: what the pipeline counted, beside what is stored.
-- Writer: none; it is computed when read.
-- Engine: a view. received = applied + duplicate + late + rejected, so `unaccounted` is 0; and when raw events are
--   stored and everything has drained, stored_applied = applied, stored_late = late, stored_rejected = rejected.
--   It replaces the one before it, which knew of no feedback, no identities and nobody erased; what guests hand over
--   is no input, and is not counted.
CREATE OR REPLACE VIEW conservation AS
SELECT
    topic,
    partition,
    sum(c.received) AS received,
    sum(c.applied) AS applied,
    sum(c.duplicate) AS duplicate,
    sum(c.late) AS late,
    sum(c.rejected) AS rejected,
    toInt64(received) - toInt64(applied + duplicate + late + rejected) AS unaccounted,
    sum(c.stored_applied) AS stored_applied,
    sum(c.stored_late) AS stored_late,
    sum(c.stored_rejected) AS stored_rejected
FROM
(
    SELECT topic, partition, received, applied, duplicate, late, rejected,
           0 AS stored_applied, 0 AS stored_late, 0 AS stored_rejected
    FROM ingest FINAL
    UNION ALL
    SELECT topic, partition, 0, 0, 0, 0, 0, count(), 0, 0
    FROM events FINAL
    WHERE (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM late_events)
        AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letters)
    GROUP BY topic, partition
    UNION ALL
    SELECT topic, partition, 0, 0, 0, 0, 0, count(), 0, 0
    FROM erased_records FINAL
    WHERE of_table = 'events' AND (topic, partition, offset) NOT IN (SELECT topic, partition, offset FROM dead_letters)
        AND (topic, partition, offset) NOT IN
            (SELECT topic, partition, offset FROM erased_records WHERE of_table = 'late_events')
    GROUP BY topic, partition
    UNION ALL
    SELECT topic, partition, 0, 0, 0, 0, 0, 0, count(), 0
    FROM erased_records FINAL
    WHERE of_table = 'late_events' AND topic != 'handovers'
    GROUP BY topic, partition
    UNION ALL
    SELECT topic, partition, 0, 0, 0, 0, 0, 0, count(), 0
    FROM late_events FINAL
    WHERE topic != 'handovers'
    GROUP BY topic, partition
    UNION ALL
    SELECT topic, partition, 0, 0, 0, 0, 0, 0, 0, count()
    FROM dead_letters FINAL
    WHERE topic IN ('visits', 'favorites', 'carts', 'orders', 'feedback', 'identities')
    GROUP BY topic, partition
) AS c
GROUP BY topic, partition;
