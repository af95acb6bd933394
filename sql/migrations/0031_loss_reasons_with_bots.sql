-- Grain: one lost session or lapse, bots' too, and why. For the marketplace's operator alone: the evidence names a
--   customer's order in a rival's shop.
-- Writer: none; it is computed when read, so that a correction shows at once, and peers who come late too.
-- Engine: a view over reasons FINAL, leaks FINAL, transitions FINAL and moves_by_hour. own_reason is what the stream says
--   of this loss by itself. is_market: a session's visitor bought elsewhere (own_reason price, competition or variety)
--   while the category surged: 5 others or more moved in the hour of the order and the two before and after it, and
--   3 times what is usual. reason is then `market`, its score 0.50 and 0.05 for each time of the usual, at most 0.95.
--   Nobody's grievance and no lapse is the market's. from_lapsing: a buyer who has lapsed has been silent for so long
--   that nothing but the silence is known by itself (own_reason forgot or unknown), while a reason was found when the
--   lapsing began; it is kept, with its evidence.
CREATE OR REPLACE VIEW loss_reasons_with_bots AS
SELECT
    r.reason_id AS reason_id,
    r.kind AS kind,
    r.subject_id AS subject_id,
    r.shop_id AS shop_id,
    r.customer_id AS customer_id,
    r.at AS at,
    r.day AS day,
    if(from_lapsing, b.category, r.category) AS category,
    multiIf(is_market, 'market', from_lapsing, b.reason, r.reason) AS reason,
    multiIf(
        is_market, least(95, 50 + 5 * floor((m.movers - 1) / greatest(m.usual, 0.1))) / 100,
        from_lapsing, b.score,
        r.score
    ) AS score,
    r.reason AS own_reason,
    r.score AS own_score,
    if(from_lapsing, b.scores, r.scores) AS scores,
    if(from_lapsing, b.evidence, r.evidence) AS evidence,
    if(isNull(m.movers), NULL, m.movers - 1) AS market_peers,
    m.usual AS market_usual,
    ifNull(
        r.kind = 'session' AND r.reason IN ('price', 'competition', 'variety')
        AND m.movers - 1 >= 5 AND m.movers - 1 >= 3 * m.usual,
        false
    ) AS is_market,
    r.kind = 'lapse' AND r.reason IN ('forgot', 'unknown') AND b.reason != '' AS from_lapsing,
    r.is_bot AS is_bot
FROM reasons AS r FINAL
LEFT JOIN
(
    SELECT shop_id, customer_id, to_shop_id, order_id, toStartOfHour(ordered_at) AS hour
    FROM leaks FINAL
    -- A bot is nobody's peer, and has none.
    WHERE NOT is_bot
) AS l
    ON l.shop_id = r.shop_id AND l.customer_id = r.customer_id
    AND l.to_shop_id = r.evidence['to_shop'] AND l.order_id = r.evidence['order']
LEFT JOIN
(
    SELECT category, hour, toNullable(movers) AS movers, usual
    FROM moves_by_hour
) AS m
    ON m.category = r.evidence['category'] AND m.hour = l.hour
LEFT JOIN
(
    SELECT
        lapsed.transition_id AS subject_id,
        e.reason AS reason,
        e.category AS category,
        e.score AS score,
        e.scores AS scores,
        e.evidence AS evidence
    FROM transitions AS lapsed FINAL
    INNER JOIN transitions AS lapsing FINAL
        ON lapsing.shop_id = lapsed.shop_id AND lapsing.customer_id = lapsed.customer_id
        AND lapsing.anchor = lapsed.anchor
    INNER JOIN reasons AS e FINAL ON e.subject_id = lapsing.transition_id
    WHERE lapsed.kind = 'stage' AND lapsed.to_state = 'lapsed'
        AND lapsing.kind = 'stage' AND lapsing.to_state = 'lapsing'
        AND e.kind = 'lapse' AND e.reason NOT IN ('forgot', 'unknown')
) AS b ON b.subject_id = r.subject_id;
