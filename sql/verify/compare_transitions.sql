-- What the stream said of stages against what it must say, column by column, for the customers of one slice: one row.
--
-- `expected` is transitions.sql, put in its place by the caller, with its parameters. Of rounded numbers see
-- compare_customers.sql. A shop with the built-in model has no transitions of tiers.
WITH
expected AS
(
/* transitions.sql */
),
published AS
(
    SELECT
        * REPLACE (
            toUnixTimestamp64Milli(anchor) AS anchor, toUnixTimestamp64Milli(at) AS at,
            ifNull(toString(to_state), '') AS to_state
        )
    FROM transitions FINAL
    WHERE
        /* slice.sql */
        AND
        /* here.sql */
),
pairs AS
(
    SELECT
        if(e.is_expected = 1, e.customer_id, p.customer_id) AS whose,
        if(e.is_expected = 1, e.shop_id, p.shop_id) AS where_,
        if(e.is_expected = 1, e.to_state, p.to_state) AS stage,
        if(e.is_expected = 1, e.anchor, p.anchor) AS since,
        e.is_expected = 1 AS is_wanted,
        -- Of whom everything, or what a model decides, is left out; a published row alone does not tell.
        max(e.is_blurred) OVER (PARTITION BY whose, where_) AS is_blurred,
        max(e.is_fitted) OVER (PARTITION BY whose, where_) AS is_fitted,
        p.version > 0 AS is_published,
        p.kind AS its_kind,
        arrayFilter(c -> c.2 != c.3, [
            ('transition_id', toString(e.transition_id), toString(p.transition_id)),
            ('at', toString(e.at), toString(p.at)),
            ('from_state', toString(e.from_state), ifNull(toString(p.from_state), 'null')),
            ('cause', toString(e.cause), toString(p.cause)),
            ('overdue_days', ifNull(toString(e.overdue_days), 'null'), ifNull(toString(p.overdue_days), 'null')),
            ('model_version', toString(e.model_version), toString(p.model_version)),
            ('partition', toString(e.partition), toString(p.partition))
        ]) AS texts,
        arrayFilter(c -> if(isNull(c.2) OR isNull(c.3), isNull(c.2) != isNull(c.3), abs(c.2 - c.3) > c.4 + 1e-9), [
            ('p_alive', e.p_alive, p.p_alive, 0.00005),
            ('p_return_90d', e.p_return_90d, p.p_return_90d, 0.00005),
            ('usual_gap_days', e.usual_gap_days, p.usual_gap_days, 0.05)
        ]) AS numbers,
        arrayConcat(texts, arrayMap(
            c -> (c.1, ifNull(toString(c.2), 'null'), ifNull(toString(c.3), 'null')), numbers
        )) AS all_differences
    FROM (SELECT *, 1 AS is_expected FROM expected) AS e
    FULL OUTER JOIN published AS p
        ON p.customer_id = e.customer_id AND p.shop_id = e.shop_id AND p.anchor = e.anchor
        AND p.to_state = e.to_state AND p.kind = e.kind
),
judged AS
(
    SELECT
        whose, where_, stage, since,
        arrayFilter(
            c -> NOT is_fitted OR c.1 IN ('transition_id', 'at', 'partition'), all_differences
        ) AS differences,
        multiIf(
            is_blurred OR (is_fitted AND (its_kind = 'tier' OR stage NOT IN ('new', 'lapsed', 'won_back'))), 'unjudged',
            NOT is_published, 'missing',
            NOT is_wanted, 'extra',
            notEmpty(differences), 'different',
            'same'
        ) AS finding
    FROM pairs
)
SELECT
    countIf(finding = 'same') AS same,
    countIf(finding = 'missing') AS missing,
    countIf(finding = 'extra') AS extra,
    countIf(finding = 'different') AS different,
    countIf(finding = 'unjudged') AS open,
    groupArrayIf(10)(
        (finding, whose, where_, concat(' to ', stage, ' of the order of ', toString(since)),
            if(finding = 'different', differences, [])),
        finding IN ('missing', 'extra', 'different')
    ) AS samples
FROM judged
