-- An order is what its earliest placed event says, or its earliest paid one; whatever event repeats it.
mentioned AS
(
    SELECT
        customer_id, shop_id, order_id,
        argMin((toInt64(t), id, total, currency, lines), (action = 'paid', t, id)) AS first_mention,
        groupArray(toInt64(t)) AS mention_times,
        any(partition) AS its_partition
    FROM accepted
    WHERE topic = 'orders' AND action IN ('placed', 'paid')
    GROUP BY customer_id, shop_id, order_id
),
amended AS
(
    SELECT
        customer_id, shop_id, order_id,
        groupArray((
            toInt64(t),
            action = 'cancelled' OR isNull(refund_amount),
            toDecimal128(ifNull(refund_amount, 0), 4)
        )) AS amendments
    FROM accepted
    WHERE topic = 'orders' AND action IN ('cancelled', 'refunded')
    GROUP BY customer_id, shop_id, order_id
),
orders AS
(
    SELECT
        customer_id, shop_id, order_id, its_partition, mention_times,
        first_mention.1 AS moment,
        first_mention.2 AS moment_id,
        first_mention.4 AS order_currency,
        first_mention.5 AS its_lines,
        arrayMap(x -> x.item_id, its_lines) AS items,
        -- Discounts of more than the lines are worth leave nothing to be owed.
        if(
            isNull(first_mention.3),
            greatest(
                arraySum(
                    x -> if(
                        isNull(x.price),
                        toDecimal128(0, 4),
                        toDecimal128(ifNull(x.price, 0), 4) * x.quantity - toDecimal128(ifNull(x.discount, 0), 4)
                    ),
                    its_lines
                ),
                toDecimal128(0, 4)
            ),
            toDecimal128(ifNull(first_mention.3, 0), 4)
        ) AS worth,
        arrayFilter(x -> abs(x.1 - moment) <= {amendment_ms:Int64}, amendments) AS applied,
        arraySum(x -> x.3, applied) AS taken_back,
        arrayExists(x -> x.2, applied) OR (worth > 0 AND taken_back >= worth) AS is_reversed,
        -- What counts towards a version may only grow, so an amendment counts if it is inside the window of any
        -- mention: the moment itself moves when an earlier mention comes late.
        length(mention_times) + arrayCount(
            x -> arrayExists(m -> abs(x.1 - m) <= {amendment_ms:Int64}, mention_times), amendments
        ) AS weight
    FROM mentioned
    LEFT JOIN amended USING (customer_id, shop_id, order_id)
)
