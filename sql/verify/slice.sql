-- The customers of one slice: {parts}: partitions of `events`; of each of them the slice {sub} of {subs}.
cityHash64(customer_id) % 8 IN {parts:Array(UInt8)}
    AND intDiv(cityHash64(customer_id), 8) % {subs:UInt32} = {sub:UInt32}
