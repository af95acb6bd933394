-- The customers of one slice: {parts}: partitions of `events`; of each of them the slice {sub} of {subs}. Guests who
-- were identified, and the customers that they are, are left out: whose each event is takes more than a batch query.
cityHash64(customer_id) % 8 IN {parts:Array(UInt8)}
    AND intDiv(cityHash64(customer_id), 8) % {subs:UInt32} = {sub:UInt32}
    AND customer_id NOT IN (
        SELECT arrayJoin([customer_id, assumeNotNull(identified_as)]) FROM events
        WHERE topic = 'identities' AND isNotNull(identified_as)
    )
