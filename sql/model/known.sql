-- How many buyers `customers` holds who had ordered by a day, and since when: what raw events of that day must cover.
-- Grain: one row; first_day is counted from 1970-01-01.
--
-- {day}: counted from 1970-01-01.
SELECT
    countIf(toInt32(assumeNotNull(first_order_on)) <= {day:Int32}) AS buyers,
    toInt32(min(assumeNotNull(first_order_on))) AS first_day
FROM customers FINAL
WHERE purchase_days > 0 AND NOT is_deleted
