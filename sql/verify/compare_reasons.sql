-- What the stream said of reasons against what it must say, column by column, for the customers of one slice: one row.
-- `expected` is reasons.sql, put in its place by the caller, with its parameters.
WITH
expected AS
(
/* reasons.sql */
),
published AS
(
    SELECT
        toString(reason_id) AS reason_id, toString(kind) AS kind, toString(subject_id) AS subject_id, shop_id,
        customer_id, toUnixTimestamp64Milli(reasons.at) AS at, day, category, reason,
        toInt64(round(score * 100)) AS percent,
        arraySort(arrayMap(
            (name, share) -> (name, toInt64(round(share * 100))), mapKeys(scores), mapValues(scores)
        )) AS percents,
        arraySort(arrayZip(mapKeys(evidence), mapValues(evidence))) AS words,
        toUInt8(is_bot) AS by_bot, partition
    FROM reasons FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
told AS
(
    SELECT
        is_expected, customer_id, shop_id,
        concat(', a ', kind, ', ', subject_id) AS which,
        kind = 'lapse' AND max(is_left_out) OVER (PARTITION BY customer_id, shop_id) AS is_open,
        [
            ('reason_id', reason_id),
            ('at', toString(at)),
            ('day', toString(day)),
            ('category', ifNull(toString(category), 'null')),
            ('reason', toString(reason)),
            ('score', toString(score)),
            ('scores', toString(scores)),
            ('evidence', toString(evidence)),
            ('is_bot', toString(is_bot)),
            ('partition', toString(partition))
        ] AS cells
    FROM
    (
        SELECT
            1 AS is_expected, reason_id, kind, subject_id, shop_id, customer_id, at, day, category, reason, score,
            scores, evidence, is_bot, partition, is_left_out
        FROM expected
        UNION ALL
        SELECT
            0, reason_id, kind, subject_id, shop_id, customer_id, at, day, category, reason, percent, percents, words,
            by_bot, partition, 0
        FROM published
    ) AS t
),
/* pairs.sql */
