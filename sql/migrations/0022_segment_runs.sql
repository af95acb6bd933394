-- Grain: one partition's work through everyone with one version of the rules. Read it with FINAL.
-- Writer: the sink, from the topic `segment-runs`.
-- Engine: ReplacingMergeTree(done): a run only gets on, so the row that is furthest is the true one. A handful of rows,
--   so no partition.
CREATE TABLE IF NOT EXISTS segment_runs
(
    rules_version UInt64,
    partition     UInt32,
    done          UInt64               COMMENT 'customers looked at',
    total         UInt64               COMMENT 'customers there were when it began',
    started_at    DateTime64(3, 'UTC') COMMENT 'wall clock',
    at            DateTime64(3, 'UTC') COMMENT 'wall clock',
    is_finished   Bool
)
ENGINE = ReplacingMergeTree(done)
ORDER BY (rules_version, partition)
SETTINGS min_age_to_force_merge_seconds = 300, min_age_to_force_merge_on_partition_only = 1;
