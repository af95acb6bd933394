-- What the stream said against what it must say, column by column, for the customers of one slice: one row.
--
-- `expected` is sessions.sql, put in its place by the caller. {watermark_ms}: judge the sessions that had closed by
-- then; below 0: by each partition's own watermark. The other parameters are those of sessions.sql.
WITH
expected AS
(
/* sessions.sql */
),
published AS
(
    SELECT
        session_id, shop_id, customer_id, toUnixTimestamp64Milli(started_at) AS start_ms,
        toUnixTimestamp64Milli(ended_at) AS end_ms, outcome, lost_stage, events, visits, favorites, carts, cart_value,
        currency, mixed_currency, orders, revenue, recovered, toUnixTimestamp64Milli(recovered_at) AS recovered_ms,
        recovered_by, landing_item, channel, campaign, is_bot, version, partition
    FROM sessions FINAL
    WHERE cityHash64(customer_id) % 8 IN {parts:Array(UInt8)}
        AND intDiv(cityHash64(customer_id), 8) % {subs:UInt32} = {sub:UInt32}
),
told AS
(
    SELECT
        source, customer_id, shop_id, start_ms, end_ms, partition,
        arrayMap(x -> ifNull(x, 'null'), [
            toString(session_id), toString(end_ms), toString(outcome), toString(lost_stage), toString(events),
            toString(visits), toString(favorites), toString(carts), toString(toDecimal128(cart_value, 4)),
            toString(currency), toString(toUInt8(mixed_currency)), toString(orders),
            toString(toDecimal128(revenue, 4)), toString(toUInt8(recovered)), toString(recovered_ms),
            toString(recovered_by), toString(landing_item), toString(channel), toString(campaign),
            toString(toUInt8(is_bot)), toString(version), toString(partition)
        ]) AS cells
    FROM
    (
        SELECT
            'expected' AS source, session_id, shop_id, customer_id, started_at AS start_ms, ended_at AS end_ms,
            outcome, lost_stage, events, visits, favorites, carts, cart_value, currency,
            toUInt8(mixed_currency) AS mixed_currency, orders, revenue, toUInt8(recovered) AS recovered,
            recovered_at AS recovered_ms, recovered_by, landing_item, channel, campaign, toUInt8(is_bot) AS is_bot,
            version, partition
        FROM expected
        UNION ALL
        SELECT
            'published', session_id, shop_id, customer_id, start_ms, end_ms, outcome, lost_stage, events, visits,
            favorites, carts, cart_value, currency, toUInt8(mixed_currency), orders, revenue, toUInt8(recovered),
            recovered_ms, recovered_by, landing_item, channel, campaign, toUInt8(is_bot), version, partition
        FROM published
    )
),
watermarks AS
(
    -- It never goes backwards, so the highest that was ever told is the newest.
    SELECT partition, max(toUnixTimestamp64Milli(watermark)) AS watermark_ms FROM ingest GROUP BY partition
),
judged AS
(
    SELECT
        t.*,
        end_ms + {gap_ms:Int64}
            < if({watermark_ms:Int64} < 0, w.watermark_ms, {watermark_ms:Int64}) AS is_closed
    FROM told AS t
    LEFT JOIN watermarks AS w ON w.partition = t.partition
),
pairs AS
(
    SELECT
        customer_id, shop_id, start_ms,
        countIf(source = 'expected' AND is_closed) AS expectations,
        countIf(source = 'published' AND is_closed) AS publications,
        countIf(source = 'expected' AND NOT is_closed) AS open,
        anyIf(cells, source = 'expected') AS wanted,
        anyIf(cells, source = 'published') AS found,
        arrayFilter(
            x -> x.2 != x.3,
            arrayZip(
                [
                    'session_id', 'ended_at', 'outcome', 'lost_stage', 'events', 'visits', 'favorites', 'carts',
                    'cart_value', 'currency', 'mixed_currency', 'orders', 'revenue', 'recovered', 'recovered_at',
                    'recovered_by', 'landing_item', 'channel', 'campaign', 'is_bot', 'version', 'partition'
                ],
                wanted,
                found
            )
        ) AS differences,
        multiIf(
            expectations = 0 AND publications = 0, 'open',
            publications = 0, 'missing',
            expectations = 0, 'extra',
            notEmpty(differences), 'different',
            'same'
        ) AS finding
    FROM judged
    GROUP BY customer_id, shop_id, start_ms
)
SELECT
    countIf(finding = 'same') AS same,
    countIf(finding = 'missing') AS missing,
    countIf(finding = 'extra') AS extra,
    countIf(finding = 'different') AS different,
    sum(open) AS open,
    groupArrayIf(10)(
        (
            finding, customer_id, shop_id, concat(' from ', toString(start_ms)),
            if(finding = 'different', differences, [])
        ),
        finding IN ('missing', 'extra', 'different')
    ) AS samples
FROM pairs
