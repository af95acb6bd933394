-- Grain: one shop and day of its calendar: its lost visitors, and what they spent elsewhere. Plain columns leave bots
--   out; *_with_bots have them in.
-- Writer: none; it is computed when read, so that a correction shows at once.
-- Engine: a view over sessions FINAL and leaks FINAL. Each column that sellers' tools have a name for says it in its
--   comment, before the colon. Visitors are customers with a session that began on the day, and bots if one of these
--   is a bot's. They are lost if none of these sessions converted, in the deepest stage of these, so that
--   lost_visitors = bounced + browsed + lost_after_favorite + lost_after_cart. Leaks are of the day that the stream
--   found for each, on which the shop sold the buyer nothing: who came before midnight and bought here after it is no
--   lost visitor, and may have leaked. Amounts are maps from currency ('' where the order names none), as amounts of
--   different currencies are never added; `leaked_orders` lists the orders that add up to them.
--   A seller may see all but leaked_to_shops and leaked_to_items: beside `leak_destinations`, that there was one shop
--   more can say which.
CREATE OR REPLACE VIEW leaked_amount
(
    shop_id                         String,
    day                             Date32,
    visitors                        UInt64                      COMMENT 'customers with a session that began on the day',
    lost_visitors                   UInt64                      COMMENT 'losByrCnt: visitors none of whose sessions of the day converted',
    loss_rate                       Nullable(Float64)           COMMENT 'losRate: lost_visitors to visitors',
    bounced                         UInt64                      COMMENT 'directLosCnt: lost visitors who saw one page and did nothing, each time they came',
    browsed                         UInt64                      COMMENT 'lost visitors who looked around, and left nothing in favorites or cart',
    lost_after_favorite             UInt64                      COMMENT 'cltLosByrCnt: lost visitors whose deepest intent at a session''s end was a favorite',
    lost_after_cart                 UInt64                      COMMENT 'cartLosByrCnt: lost visitors with something in the cart at a session''s end',
    value_at_risk                   Map(String, Decimal(38, 4)) COMMENT 'losAmt: of the carts that stood when lost sessions ended, as in loss_by_shop_day',
    leaked_amount                   Map(String, Decimal(38, 4)) COMMENT 'paylosAmt: what they bought of the same categories elsewhere, less refunds',
    leaked_orders                   UInt64                      COMMENT 'orders elsewhere that leaked_amount is of',
    leaked_buyers                   UInt64                      COMMENT 'paylosByrCnt: customers who made them',
    leaked_buyers_after_favorite    UInt64                      COMMENT 'of these, with an order of a kind that was a favorite here that day, and not in the cart',
    leaked_buyers_after_cart        UInt64                      COMMENT 'of these, with an order of a kind that was in the cart here that day',
    leaked_to_shops                 UInt64                      COMMENT 'losShopCnt: shops that they bought in; for the operator alone',
    leaked_to_items                 UInt64                      COMMENT 'losItmCnt: items that they bought there; for the operator alone',
    visitors_with_bots              UInt64,
    lost_visitors_with_bots         UInt64,
    loss_rate_with_bots             Nullable(Float64),
    bounced_with_bots               UInt64,
    browsed_with_bots               UInt64,
    lost_after_favorite_with_bots   UInt64,
    lost_after_cart_with_bots       UInt64,
    value_at_risk_with_bots         Map(String, Decimal(38, 4)),
    leaked_amount_with_bots         Map(String, Decimal(38, 4)),
    leaked_orders_with_bots         UInt64,
    leaked_buyers_with_bots         UInt64,
    leaked_buyers_after_favorite_with_bots UInt64,
    leaked_buyers_after_cart_with_bots     UInt64,
    leaked_to_shops_with_bots       UInt64,
    leaked_to_items_with_bots       UInt64
)
AS
WITH
-- lost_as: how deep the lost got, from 1, bounced, to 4, carted; 0: they are not lost.
visitors_of_day AS
(
    SELECT
        s.shop_id AS shop_id,
        s.day AS day,
        s.customer_id AS customer_id,
        max(s.is_bot) AS is_bot,
        if(
            countIf(s.outcome = 'converted') > 0,
            0,
            max(indexOf(['bounced', 'browsed', 'favorited', 'carted'], ifNull(s.lost_stage, '')))
        ) AS lost_as,
        -- A session's own flag, as in loss_by_shop_day.
        sumMapIf(
            map(ifNull(s.currency, ''), s.cart_value),
            s.outcome = 'lost' AND isNotNull(s.currency) AND NOT s.is_bot
        ) AS value_at_risk,
        sumMapIf(
            map(ifNull(s.currency, ''), s.cart_value),
            s.outcome = 'lost' AND isNotNull(s.currency)
        ) AS value_at_risk_with_bots
    FROM sessions AS s FINAL
    GROUP BY shop_id, day, customer_id
),
-- Side by side and then added, as a day may have only one of the two.
parts AS
(
    SELECT
        v.shop_id AS shop_id,
        v.day AS day,
        countIf(NOT v.is_bot) AS visitors,
        countIf(v.lost_as > 0 AND NOT v.is_bot) AS lost_visitors,
        countIf(v.lost_as = 1 AND NOT v.is_bot) AS bounced,
        countIf(v.lost_as = 2 AND NOT v.is_bot) AS browsed,
        countIf(v.lost_as = 3 AND NOT v.is_bot) AS lost_after_favorite,
        countIf(v.lost_as = 4 AND NOT v.is_bot) AS lost_after_cart,
        sumMap(v.value_at_risk) AS value_at_risk,
        CAST(map(), 'Map(String, Decimal(38, 4))') AS leaked_amount,
        0 AS leaked_orders,
        0 AS leaked_buyers,
        0 AS leaked_buyers_after_favorite,
        0 AS leaked_buyers_after_cart,
        0 AS leaked_to_shops,
        0 AS leaked_to_items,
        count() AS visitors_with_bots,
        countIf(v.lost_as > 0) AS lost_visitors_with_bots,
        countIf(v.lost_as = 1) AS bounced_with_bots,
        countIf(v.lost_as = 2) AS browsed_with_bots,
        countIf(v.lost_as = 3) AS lost_after_favorite_with_bots,
        countIf(v.lost_as = 4) AS lost_after_cart_with_bots,
        sumMap(v.value_at_risk_with_bots) AS value_at_risk_with_bots,
        CAST(map(), 'Map(String, Decimal(38, 4))') AS leaked_amount_with_bots,
        0 AS leaked_orders_with_bots,
        0 AS leaked_buyers_with_bots,
        0 AS leaked_buyers_after_favorite_with_bots,
        0 AS leaked_buyers_after_cart_with_bots,
        0 AS leaked_to_shops_with_bots,
        0 AS leaked_to_items_with_bots
    FROM visitors_of_day AS v
    GROUP BY shop_id, day
    UNION ALL
    SELECT
        l.shop_id AS shop_id,
        l.day AS day,
        0 AS visitors,
        0 AS lost_visitors,
        0 AS bounced,
        0 AS browsed,
        0 AS lost_after_favorite,
        0 AS lost_after_cart,
        CAST(map(), 'Map(String, Decimal(38, 4))') AS value_at_risk,
        sumMapIf(map(ifNull(l.currency, ''), l.amount), NOT l.is_bot) AS leaked_amount,
        uniqExactIf((l.customer_id, l.to_shop_id, l.order_id), NOT l.is_bot) AS leaked_orders,
        uniqExactIf(l.customer_id, NOT l.is_bot) AS leaked_buyers,
        uniqExactIf(l.customer_id, l.intent = 'favorite' AND NOT l.is_bot) AS leaked_buyers_after_favorite,
        uniqExactIf(l.customer_id, l.intent = 'cart' AND NOT l.is_bot) AS leaked_buyers_after_cart,
        uniqExactIf(l.to_shop_id, NOT l.is_bot) AS leaked_to_shops,
        uniqExactArrayIf(arrayMap(item -> (l.to_shop_id, item), l.to_item_ids), NOT l.is_bot) AS leaked_to_items,
        0 AS visitors_with_bots,
        0 AS lost_visitors_with_bots,
        0 AS bounced_with_bots,
        0 AS browsed_with_bots,
        0 AS lost_after_favorite_with_bots,
        0 AS lost_after_cart_with_bots,
        CAST(map(), 'Map(String, Decimal(38, 4))') AS value_at_risk_with_bots,
        sumMap(map(ifNull(l.currency, ''), l.amount)) AS leaked_amount_with_bots,
        uniqExact((l.customer_id, l.to_shop_id, l.order_id)) AS leaked_orders_with_bots,
        uniqExact(l.customer_id) AS leaked_buyers_with_bots,
        uniqExactIf(l.customer_id, l.intent = 'favorite') AS leaked_buyers_after_favorite_with_bots,
        uniqExactIf(l.customer_id, l.intent = 'cart') AS leaked_buyers_after_cart_with_bots,
        uniqExact(l.to_shop_id) AS leaked_to_shops_with_bots,
        uniqExactArray(arrayMap(item -> (l.to_shop_id, item), l.to_item_ids)) AS leaked_to_items_with_bots
    FROM leaks AS l FINAL
    GROUP BY shop_id, day
)
SELECT
    p.shop_id AS shop_id,
    p.day AS day,
    sum(p.visitors) AS visitors,
    sum(p.lost_visitors) AS lost_visitors,
    lost_visitors / nullIf(visitors, 0) AS loss_rate,
    sum(p.bounced) AS bounced,
    sum(p.browsed) AS browsed,
    sum(p.lost_after_favorite) AS lost_after_favorite,
    sum(p.lost_after_cart) AS lost_after_cart,
    sumMap(p.value_at_risk) AS value_at_risk,
    sumMap(p.leaked_amount) AS leaked_amount,
    sum(p.leaked_orders) AS leaked_orders,
    sum(p.leaked_buyers) AS leaked_buyers,
    sum(p.leaked_buyers_after_favorite) AS leaked_buyers_after_favorite,
    sum(p.leaked_buyers_after_cart) AS leaked_buyers_after_cart,
    sum(p.leaked_to_shops) AS leaked_to_shops,
    sum(p.leaked_to_items) AS leaked_to_items,
    sum(p.visitors_with_bots) AS visitors_with_bots,
    sum(p.lost_visitors_with_bots) AS lost_visitors_with_bots,
    lost_visitors_with_bots / nullIf(visitors_with_bots, 0) AS loss_rate_with_bots,
    sum(p.bounced_with_bots) AS bounced_with_bots,
    sum(p.browsed_with_bots) AS browsed_with_bots,
    sum(p.lost_after_favorite_with_bots) AS lost_after_favorite_with_bots,
    sum(p.lost_after_cart_with_bots) AS lost_after_cart_with_bots,
    sumMap(p.value_at_risk_with_bots) AS value_at_risk_with_bots,
    sumMap(p.leaked_amount_with_bots) AS leaked_amount_with_bots,
    sum(p.leaked_orders_with_bots) AS leaked_orders_with_bots,
    sum(p.leaked_buyers_with_bots) AS leaked_buyers_with_bots,
    sum(p.leaked_buyers_after_favorite_with_bots) AS leaked_buyers_after_favorite_with_bots,
    sum(p.leaked_buyers_after_cart_with_bots) AS leaked_buyers_after_cart_with_bots,
    sum(p.leaked_to_shops_with_bots) AS leaked_to_shops_with_bots,
    sum(p.leaked_to_items_with_bots) AS leaked_to_items_with_bots
FROM parts AS p
GROUP BY shop_id, day;
