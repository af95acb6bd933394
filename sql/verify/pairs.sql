-- How what was told compares, cell by cell. Of `told`, each row: whether it is what must be (`is_expected`), whose and
-- which, whether it may still change (`is_open`), and its cells as (column, text); the same columns in all rows.
pairs AS
(
    SELECT
        customer_id, shop_id, which, openings,
        arrayFilter(
            c -> c.2 != c.3,
            arrayMap((w, place) -> (w.1, w.2, found[place].2), wanted, arrayEnumerate(wanted))
        ) AS differences,
        multiIf(
            openings > 0 OR (expectations = 0 AND publications = 0), 'open',
            publications = 0, 'missing',
            publications > expectations, 'extra',
            notEmpty(differences), 'different',
            'same'
        ) AS finding
    FROM
    (
        SELECT
            customer_id, shop_id, which,
            countIf(is_expected AND NOT is_open) AS expectations,
            countIf(NOT is_expected AND NOT is_open) AS publications,
            countIf(is_expected AND is_open) AS openings,
            anyIf(cells, is_expected) AS wanted,
            anyIf(cells, NOT is_expected) AS found
        FROM told
        GROUP BY customer_id, shop_id, which
    )
)
SELECT
    countIf(finding = 'same') AS same,
    countIf(finding = 'missing') AS missing,
    countIf(finding = 'extra') AS extra,
    countIf(finding = 'different') AS different,
    countIf(finding = 'open') AS open,
    groupArrayIf(10)(
        (finding, customer_id, shop_id, which, if(finding = 'different', differences, [])),
        finding IN ('missing', 'extra', 'different')
    ) AS samples
FROM pairs
