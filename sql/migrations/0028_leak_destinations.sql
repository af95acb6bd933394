-- Grain: one shop, week of its calendar (by its Monday) and shop that its visitors then bought in, or one item there;
--   to_item_id is null where it is about the whole of that shop. This is what a seller may see of where the lost went:
--   nothing in it is about fewer than k = 5 buyers, and nothing about fewer follows from it. Each row of `leaks` is for
--   the operator of the marketplace alone.
--
--   buyers_at_least: different buyers, rounded down to fives. amount_at_least: by currency what they spent there on what
--   they had looked at here, net of refunds, each counted with no more than the fifth greatest of them spent, rounded
--   down to 1, 2 or 5 times a power of ten; only of currencies that five paid in, and not by item. A row that is missing
--   says nothing: there may be up to four buyers, or all but four of those who left.
--
--   Who is kept out. A seller who knows all of their own shop: each visitor, what they looked at, and who of them bought
--   elsewhere, as single reasons and `item_loss` tell; every exact total of `leaked_amount` and of the report, for any
--   range of days; and each rival's catalogue. They may read this view as often as they like, and keep what they read.
--   What must not follow is that somebody they know bought in a certain rival's shop, nor what.
--
--   How, by attack:
--   * Two days, two ranges. Weeks do not overlap, and there is no other grain: what a reader can add up are whole
--     buckets, and the difference of two sums is again a sum of whole buckets.
--   * The same view before and after one more buyer, or one refund. A week is told once it can change no more: after its
--     last day the longest leak window (7 days), the amendment window (30), the horizon (1), and 2 for zones and for the
--     sink, by the watermark of the partition that is furthest behind. From then on it reads the same. (While data of
--     years is replayed in minutes, days of event time are no time: let the sink come to its end first.)
--   * The total minus those listed. Counts are rounded down, so that each listed one leaves 5 numbers possible, and what
--     is left over is never held between 1 and 4. The amount is known to within a factor of two or more.
--   * Everybody. If all who left went to one shop, its count names them all. So at least five who left in that week, and
--     had looked at the same category, did not go there; of an item, of each category that all its orders share.
--   * A shop's total against its items. Both are rounded down, and so the difference is not held between 1 and 4 either.
--   * One big spender, who would show in the amount or by its absence. Nobody counts with more than five of them spent.
--   * Asking for less. k is no parameter, because a parameter is the reader's: 5 and 6 together tell an exact count.
--     There are no *_with_bots for the same reason; bots are left out.
--
--   What this does not keep out: one who really buys as k - 1 customers in the rival's shop, and keeps the goods; k ids
--   of one guest, who count as k; a person who is erased, whose bucket then lacks them; a policy with a longer
--   amendment window or horizon than the default, for which this view has to be replaced; a reader who may read other
--   shops' rows or the tables below: ask with one shop_id on the seller's behalf, or grant the view alone.
-- Writer: none; it is computed when read.
-- Engine: a view over leaks FINAL and ingest FINAL.
CREATE OR REPLACE VIEW leak_destinations
(
    shop_id         String                 COMMENT 'that lost them',
    week            Date32                 COMMENT 'its Monday',
    to_shop_id      String,
    to_item_id      Nullable(String)       COMMENT 'null: the whole of to_shop_id',
    buyers_at_least UInt64                 COMMENT 'rounded down to fives',
    amount_at_least Map(String, UInt64)    COMMENT 'by currency, rounded down to 1, 2 or 5 times a power of ten'
)
AS
WITH
5 AS k,
40 AS days_to_settle,
arrayFlatten(arrayMap(e -> [intExp10(e), 2 * intExp10(e), 5 * intExp10(e)], range(16))) AS steps,
settled AS
(
    SELECT
        shop_id,
        day - (toDayOfWeek(day) - 1) AS week,
        customer_id,
        to_shop_id,
        to_item_ids,
        categories,
        map(ifNull(currency, ''), amount) AS paid
    FROM leaks FINAL
    WHERE NOT is_bot AND week + 7 + days_to_settle <= (
        SELECT toDate32(min(reached), 'UTC')
        FROM
        (
            SELECT max(watermark) AS reached
            FROM ingest FINAL
            WHERE toUnixTimestamp64Milli(watermark) > 0
            GROUP BY partition
        )
    )
),
-- Who left in a week after looking at a category, wherever they went.
crowds AS
(
    SELECT shop_id, week, category, uniqExact(customer_id) AS crowd
    FROM settled
    ARRAY JOIN categories AS category
    GROUP BY shop_id, week, category
),
buyers AS
(
    SELECT
        shop_id,
        week,
        to_shop_id,
        to_item_id,
        customer_id,
        groupUniqArrayArray(categories) AS any_of,
        groupArrayIntersect(categories) AS all_of,
        sumMap(paid) AS spent
    FROM settled
    ARRAY JOIN arrayConcat([NULL], to_item_ids) AS to_item_id
    GROUP BY shop_id, week, to_shop_id, to_item_id, customer_id
),
buckets AS
(
    SELECT
        shop_id,
        week,
        to_shop_id,
        to_item_id,
        count() AS buyers,
        -- An item has one category, which is in each of its orders; a shop has all of its orders'.
        if(isNull(to_item_id), groupUniqArrayArray(any_of), groupArrayIntersect(all_of)) AS of_categories,
        groupArrayIf(spent, isNull(to_item_id)) AS spendings
    FROM buyers
    GROUP BY shop_id, week, to_shop_id, to_item_id
    HAVING buyers >= k
),
hidden AS
(
    SELECT
        b.shop_id AS shop_id,
        b.week AS week,
        b.to_shop_id AS to_shop_id,
        b.to_item_id AS to_item_id,
        b.buyers AS buyers,
        any(b.spendings) AS spendings,
        if(isNull(b.to_item_id), max(c.crowd), min(c.crowd)) AS crowd
    FROM
    (
        SELECT shop_id, week, to_shop_id, to_item_id, buyers, spendings, category
        FROM buckets
        ARRAY JOIN of_categories AS category
    ) AS b
    INNER JOIN crowds AS c ON c.shop_id = b.shop_id AND c.week = b.week AND c.category = b.category
    GROUP BY b.shop_id, b.week, b.to_shop_id, b.to_item_id, b.buyers
    HAVING crowd >= buyers + k
)
SELECT
    shop_id,
    week,
    to_shop_id,
    to_item_id,
    intDiv(buyers, k) * k AS buyers_at_least,
    mapFromArrays(
        arrayFilter(
            currency -> arrayCount(spent -> spent[currency] > 0, spendings) >= k,
            arraySort(arrayDistinct(arrayFlatten(arrayMap(spent -> mapKeys(spent), spendings))))
        ) AS currencies,
        arrayMap(
            currency -> arrayLast(
                step -> step <= arraySum(arrayMap(
                    spent -> least(
                        spent[currency], arrayReverseSort(arrayMap(one -> one[currency], spendings))[k]
                    ),
                    spendings
                )),
                steps
            ),
            currencies
        )
    ) AS amount_at_least
FROM hidden;
