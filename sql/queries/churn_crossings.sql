-- Question: who crossed into lapsed, and who returned from it?
-- Parameters: shop, one shop, or all if empty; zone, of the shops' days; since and until, the first and the last day.
-- Grain: one crossing of one customer in one shop. A day's rows are the counts of `churn_daily`.
WITH steps AS
(
    SELECT
        shop_id,
        customer_id,
        at,
        anchor,
        to_state,
        -- A buyer who was forgotten and buys again is new to the stream, and had lapsed for us.
        if(from_state = 'prospect', lagInFrame(to_state) OVER so_far, from_state) AS before
    FROM transitions FINAL
    WHERE kind = 'stage' AND ({shop:String} = '' OR shop_id = {shop:String})
    WINDOW so_far AS (
        PARTITION BY shop_id, customer_id ORDER BY at, anchor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
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
FROM steps AS s
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
) AS c ON c.shop_id = s.shop_id AND c.customer_id = s.customer_id
WHERE (s.to_state = 'lapsed' OR s.before = 'lapsed')
    AND toDate32(s.at, {zone:String}) BETWEEN {since:Date32} AND {until:Date32}
ORDER BY shop_id, day, moved, customer_id, s.at
