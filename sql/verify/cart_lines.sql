-- A line holds what the last set, remove or clear left of it and what was added since; its price is the last told.
cart_lines AS
(
    SELECT
        customer_id, shop_id, n, item_id,
        any(cleared_at) AS cleared,
        groupArray((t, id, action, quantity)) AS said,
        arraySort(arrayFilter(x -> x.3 IN ('set', 'remove'), said)) AS statements,
        -- No statement reads as one at the beginning of time that left nothing.
        if(empty(statements), (0, 0, '', 0), statements[-1]) AS statement,
        (statement.1, statement.2) > cleared AS is_stated,
        if(is_stated, (statement.1, statement.2), cleared) AS since,
        if(is_stated AND statement.3 = 'set', statement.4, 0)
            + arraySum(x -> if(x.3 = 'add' AND (x.1, x.2) > since, x.4, 0), said) AS pieces,
        maxIf((t, id), action IN ('add', 'set')) AS touched,
        argMaxIf((price, currency), (t, id), action IN ('add', 'set') AND isNotNull(price)) AS priced
    FROM
    (
        SELECT
            customer_id, shop_id, n, ifNull(item_id, '') AS item_id, toInt64(t) AS t, id, toString(action) AS action,
            toInt64(ifNull(quantity, 0)) AS quantity, price, currency,
            maxIf((toInt64(t), id), action = 'clear') OVER (PARTITION BY customer_id, shop_id, n) AS cleared_at
        FROM activity
        WHERE topic = 'carts'
    )
    WHERE action != 'clear'
    GROUP BY customer_id, shop_id, n, item_id
)
