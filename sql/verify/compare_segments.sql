-- What the stream said of memberships against what it must say, for the customers of one slice: one row.
--
-- `expected` is segments.sql, put in its place by the caller, with its parameters; it is known of each partition by
-- the rules of {rules_version} once its run through everyone has ended (`in_force`), and before that all of it is open.
-- {silences}: the silences (ms) after which a rule of this version may say something else.
--
-- Membership is compared exactly. Of who has left, and of who never was a member, no row need be there.
--
-- `at` is not compared with one instant. It is told once, by what was known then, and stays while the membership does:
-- an event that comes late and leaves the answer as it was, does not move it, and of what came about between two looks
-- each has the time that the later look gives it. So it depends on arrivals, which raw events do not show in full.
-- (That it is exact in order, the laws of the tests say.) What follows from definitions whatever the arrivals were, is
-- judged: `event` is at the time of an event, `time` at the start of a local day or where a silence has lasted after an
-- event, and nothing is beyond the watermark. Left out: `version`, which counts tellings.
WITH
expected AS
(
/* segments.sql */
),
runs AS
(
    SELECT
        partition, 1 AS has_run,
        max(rules_version) AS newest,
        maxIf(is_finished, rules_version = {rules_version:UInt64}) AS has_ended
    FROM segment_runs
    GROUP BY partition
),
published AS
(
    SELECT
        customer_id, shop_id, any(partition) AS its_partition,
        groupArray((
            segment, is_member, toUnixTimestamp64Milli(at), toString(cause), rules_version, partition
        )) AS rows
    FROM segments FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
    GROUP BY customer_id, shop_id
),
whose AS
(
    SELECT
        if(e.is_expected = 1, e.customer_id, p.customer_id) AS customer_id,
        if(e.is_expected = 1, e.shop_id, p.shop_id) AS shop_id,
        if(e.is_expected = 1, e.partition, p.its_partition) AS its_partition,
        e.answers AS answers,
        arrayMap(
            r -> (r.1, r.2, [
                (
                    'at',
                    multiIf(
                        e.is_expected = 1 AND r.3 > e.now_ms, 'at most the watermark',
                        e.is_expected = 1 AND r.4 = 'event' AND NOT has(e.times, r.3), 'the time of an event',
                        e.is_expected = 1 AND r.4 = 'time' AND r.5 = {rules_version:UInt64}
                            AND NOT arrayExists(s -> has(e.times, r.3 - s), {silences:Array(Int64)})
                            AND r.3 != toUnixTimestamp64Milli(toDateTime64(
                                toDate32(fromUnixTimestamp64Milli(r.3, {zone:String})), 3, {zone:String}
                            )),
                        'the start of a day or the end of a silence',
                        toString(r.3)
                    ),
                    toString(r.3)
                ),
                ('cause', if(r.4 IN ('event', 'time', 'rules'), r.4, 'event, time or rules'), r.4),
                ('rules_version', toString(least(r.5, {rules_version:UInt64})), toString(r.5)),
                ('partition', toString(if(e.is_expected = 1, e.partition, r.6)), toString(r.6))
            ]),
            p.rows
        ) AS told
    FROM (SELECT *, 1 AS is_expected FROM expected) AS e
    FULL OUTER JOIN published AS p ON p.customer_id = e.customer_id AND p.shop_id = e.shop_id
),
-- Each segment that they must be in, or that something was told of.
each AS
(
    SELECT
        customer_id, shop_id, segment,
        if(has_run, newest = {rules_version:UInt64} AND has_ended, {rules_version:UInt64} = 0) AS in_force,
        arrayFirst(a -> a.1 = segment, answers) AS answer,
        arrayFirst(r -> r.1 = segment, told) AS row
    FROM whose
    LEFT JOIN runs ON runs.partition = whose.its_partition
    ARRAY JOIN arrayDistinct(arrayConcat(arrayMap(a -> a.1, answers), arrayMap(r -> r.1, told))) AS segment
),
judged AS
(
    SELECT
        customer_id, shop_id, segment, in_force,
        answer.1 != '' AND isNull(answer.2) AS is_undecided,
        ifNull(answer.2, 0) AS is_wanted,
        row.1 != '' AS is_published,
        row.2 AS is_member,
        row.3 AS cells
    FROM each
),
pairs AS
(
    SELECT
        customer_id, shop_id, segment,
        arrayFilter(c -> c.2 != c.3, arrayPushFront(
            cells, ('is_member', if(is_wanted, 'true', 'false'), if(is_member, 'true', 'false'))
        )) AS differences,
        multiIf(
            is_undecided OR (NOT in_force AND (is_wanted OR is_published)), 'open',
            NOT in_force, 'none',
            is_wanted AND NOT is_published, 'missing',
            is_member AND NOT is_wanted, 'extra',
            NOT is_published, 'none',
            notEmpty(differences), 'different',
            'same'
        ) AS finding
    FROM judged
)
SELECT
    countIf(finding = 'same') AS same,
    countIf(finding = 'missing') AS missing,
    countIf(finding = 'extra') AS extra,
    countIf(finding = 'different') AS different,
    countIf(finding = 'open') AS open,
    groupArrayIf(10)(
        (
            finding, customer_id, shop_id, concat(' of segment ', segment),
            if(finding = 'different', differences, [])
        ),
        finding IN ('missing', 'extra', 'different')
    ) AS samples
FROM pairs
