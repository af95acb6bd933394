-- Standing orders, in all shops, with the day that each moment lies in by the calendar of the shops that are here.
sold AS
(
    SELECT
        customer_id AS buyer, shop_id AS at_shop, order_id, moment, order_currency, its_lines, grosses, discounts, nets,
        toInt32(toDate32(fromUnixTimestamp64Milli(moment, {zone:String}))) AS sold_on,
        arrayMap(x -> ifNull(x.category, ''), its_lines) AS categories
    FROM purchased
    WHERE NOT is_reversed
)
