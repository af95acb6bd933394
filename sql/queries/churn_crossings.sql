-- Question: who crossed into lapsed, and who returned from it?
-- Parameters: shop, one shop, or all if empty; guests, how ids begin that are nobody's, or empty; zone, of the shops'
--   days; since and until, the first and the last day.
-- Grain: one crossing of one customer in one shop. A day's rows are the counts of `churn_daily`.
WITH
buyers AS
(
    SELECT
        shop_id,
        customer_id,
        arraySort(groupArray((at, anchor, assumeNotNull(from_state), assumeNotNull(to_state)))) AS steps,
        arrayMap(i -> if(i > 1, steps[i - 1].4, ''), arrayEnumerate(steps)) AS stages_before
    FROM transitions FINAL
    WHERE kind = 'stage' AND ({shop:String} = '' OR shop_id = {shop:String})
        AND ({guests:String} = '' OR NOT startsWith(customer_id, {guests:String}))
    GROUP BY shop_id, customer_id
),
crossings AS
(
    SELECT
        shop_id,
        customer_id,
        arrayJoin(arrayFilter(
            (step, before) -> (
                (step.4 = 'lapsed'
                -- A buyer who was forgotten and buys again is new to the stream, and had lapsed for us.
                OR if(step.3 = 'prospect', before, step.3) = 'lapsed')
                AND toDate32(step.1, {zone:String}) BETWEEN {since:Date32} AND {until:Date32}
            ),
            steps,
            stages_before
        )) AS step,
        step.1 AS at,
        step.2 AS anchor,
        step.4 AS to_state
    FROM buyers
)
SELECT
    s.shop_id AS shop_id,
    toDate32(s.at, {zone:String}) AS day,
    if(s.to_state = 'lapsed', 'crossed', 'returned') AS moved,
    s.customer_id AS customer_id,
    -- Of who crossed, the last one; of who returned, the one that they returned with.
    s.anchor AS ordered_at,
    c.purchase_days AS purchase_days,
    c.monetary AS monetary,
    c.currency AS currency
FROM crossings AS s
-- Who was forgotten since has no profile any more: nulls.
LEFT JOIN
(
    SELECT
        shop_id,
        customer_id,
        toNullable(purchase_days) AS purchase_days,
        toNullable(monetary) AS monetary,
        currency
    FROM customers FINAL
    WHERE {shop:String} = '' OR shop_id = {shop:String}
) AS c ON c.shop_id = s.shop_id AND c.customer_id = s.customer_id
ORDER BY shop_id, day, moved, customer_id, s.at
