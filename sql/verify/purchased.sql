-- Orders with what is left of each, shared out over its lines. In ten-thousandths, which are whole numbers. Rounded
-- down along the running sum, so the parts add up exactly.
purchased AS
(
    SELECT
        customer_id, shop_id, order_id, its_partition, moment, order_currency, worth, is_reversed, weight, its_lines,
        if(is_reversed OR taken_back > worth, worth, taken_back) AS gone,
        toInt256((worth - gone) * 10000) AS kept,
        arrayMap(x -> toDecimal128(ifNull(x.price, 0), 4) * x.quantity, its_lines) AS grosses,
        arrayMap(x -> toDecimal128(ifNull(x.discount, 0), 4), its_lines) AS discounts,
        arrayMap((g, d) -> toInt256(greatest(g - d, toDecimal128(0, 4)) * 10000), grosses, discounts) AS by_worth,
        arrayMap(x -> toInt256(x.quantity), its_lines) AS by_pieces,
        multiIf(
            arraySum(by_worth) > 0, by_worth,
            arraySum(by_pieces) > 0, by_pieces,
            arrayMap(x -> toInt256(1), its_lines)
        ) AS weights,
        arrayMap(place -> arraySum(arraySlice(weights, 1, place)), arrayEnumerate(weights)) AS sums,
        arrayMap(each -> intDiv(kept * each, greatest(sums[-1], toInt256(1))), sums) AS ends,
        arrayMap(
            (end, begin) -> toDecimal128(end - begin, 4) / 10000,
            ends,
            arrayPopBack(arrayPushFront(ends, toInt256(0)))
        ) AS nets
    FROM orders
)
