-- Grain: one shop, week of its calendar (by its Monday), kind of order (the categories in it that had been looked at
--   here) and shop that visitors then bought in, or one item there; to_item_id is null where it is about the whole of
--   that shop. This is what a seller may see of where the lost went: nothing in it is about fewer than k = 5 buyers,
--   and nothing about fewer follows from it. Each row of `leaks` is for the operator of the marketplace alone.
--
--   Who is kept out: a seller who knows all of their own shop, each visitor, what they looked at, who of them bought
--   elsewhere and for how much, as single reasons, `item_loss` and days of `leaked_amount` tell; each exact total, for
--   any range of days, but not in how many shops and of how many items; and each rival's catalogue. They read this view
--   as often as they like and keep what they read.
--   What must not follow: that 1 to 4 of them bought in a certain shop or a certain item, or that all did.
--
--   How, by attack:
--   * Two days, two ranges. Weeks do not overlap, and there is no other grain: the difference of two sums of weeks is
--     again a sum of whole weeks.
--   * The same view before and after one more buyer, or one refund. A week is told once it can change no more: after
--     its last day the longest leak window (7 days), the amendment window (30), the horizon (1), and 2 for zones and
--     for the sink, by the watermark of the partition that is furthest behind. From then on it reads the same.
--   * The total minus those listed, a shop's total minus its items. Buyers are rounded down to fives. And a bucket is
--     listed from 10 buyers on, not from 5: what is missing may have 9, so that being missing tells of no 1 to 4
--     either; with 5 it would, as two items of which a listed shop lists neither have 1 to 4 each.
--   * Everybody. If all who left went to one shop, its count names them all. So of those who left in that week for an
--     order of the same kind at least 5 did not go there. Of the same kind, because a catalogue tells who could buy tea
--     in a shop of teas; and not of any of the kinds that went there, because then being listed would tell which did.
--     Items are listed only under a shop that is.
--   * Money. There is none here: who knows what each of theirs spent elsewhere can tell by any sum, however coarse, who
--     of them is in it. The shop's whole is in `leaked_amount`.
--   * Asking for less. k is no parameter, because a parameter is the reader's: 5 and 6 together tell an exact count.
--     There are no *_with_bots for the same reason; bots are left out.
--   tests/integration/test_k_anonymity.py tries these on every world of a small size, and on a view without them.
--
--   What this does not keep out: one who really buys as several customers in the rival's shop, and keeps the goods; ids
--   of one guest, who count as many; a person who is erased, whose bucket then lacks them; a price that one rival alone
--   asks, where the exact amount of a day with one who left is that price, or a reason says that it was cheaper
--   elsewhere (so show a seller `leaked_amount` and reasons of spans with many who left); readings while old data is
--   replayed, when days of event time are no time: let the sink come to its end first; a policy with a longer amendment
--   window or horizon than the default, for which this view has to be replaced; a reader who may read other shops' rows
--   or the tables below: ask for them with their own shop_id.
-- Writer: none; it is computed when read.
-- Engine: a view over leaks FINAL and ingest FINAL.
CREATE OR REPLACE VIEW leak_destinations
(
    shop_id         String           COMMENT 'that lost them',
    week            Date32           COMMENT 'its Monday, in the calendar of shop_id',
    categories      Array(String)    COMMENT 'looked at in shop_id and bought in to_shop_id, all in one order',
    to_shop_id      String,
    to_item_id      Nullable(String) COMMENT 'null: the whole of to_shop_id',
    buyers_at_least UInt64           COMMENT 'different customers who bought there, rounded down to fives'
)
AS
WITH
5 AS k,
40 AS days_to_settle,
settled AS
(
    SELECT
        shop_id,
        day - (toDayOfWeek(day) - 1) AS week,
        customer_id,
        to_shop_id,
        to_item_ids,
        categories
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
-- Who left in a week for an order of that kind, wherever it was.
crowds AS
(
    SELECT shop_id, week, categories, uniqExact(customer_id) AS crowd
    FROM settled
    GROUP BY shop_id, week, categories
),
buckets AS
(
    SELECT shop_id, week, categories, to_shop_id, to_item_id, uniqExact(customer_id) AS buyers
    FROM settled
    ARRAY JOIN arrayConcat([NULL], to_item_ids) AS to_item_id
    GROUP BY shop_id, week, categories, to_shop_id, to_item_id
    HAVING buyers >= 2 * k
),
hidden AS
(
    SELECT
        b.shop_id AS shop_id,
        b.week AS week,
        b.categories AS categories,
        b.to_shop_id AS to_shop_id,
        b.to_item_id AS to_item_id,
        b.buyers AS buyers
    FROM buckets AS b
    INNER JOIN crowds AS c ON c.shop_id = b.shop_id AND c.week = b.week AND c.categories = b.categories
    WHERE c.crowd >= b.buyers + k
)
SELECT
    shop_id,
    week,
    categories,
    to_shop_id,
    to_item_id,
    intDiv(buyers, k) * k AS buyers_at_least
FROM hidden
WHERE (shop_id, week, categories, to_shop_id) IN (
    SELECT shop_id, week, categories, to_shop_id FROM hidden WHERE isNull(to_item_id)
);
