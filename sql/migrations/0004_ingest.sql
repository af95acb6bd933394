-- Grain: what became of one input topic-partition's records, counted from its first. Read it with FINAL.
-- Writer: the sink, from the topic `ingest`.
-- Engine: ReplacingMergeTree(next_offset): counts are cumulative, so the row that read furthest is the true one.
--   A handful of rows, so no partition.
CREATE TABLE IF NOT EXISTS ingest
(
    topic       LowCardinality(String),
    partition   UInt32,
    next_offset UInt64,
    received    UInt64,
    applied     UInt64,
    duplicate   UInt64,
    late        UInt64,
    rejected    UInt64,
    watermark   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition);
