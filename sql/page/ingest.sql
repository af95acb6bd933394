-- Question: what became of the records of each input topic?
-- Parameters: none.
-- Grain: one topic. received = applied + duplicate + late + rejected, always.
SELECT
    i.topic AS topic,
    sum(i.received) AS received,
    sum(i.applied) AS applied,
    sum(i.duplicate) AS duplicate,
    sum(i.late) AS late,
    sum(i.rejected) AS rejected
FROM ingest AS i FINAL
GROUP BY topic
ORDER BY topic
