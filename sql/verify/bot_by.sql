-- What gives a session away as a machine's, the surest sign first.
multiIf(
    any_bot, 'told',
    any_agent, 'user_agent',
    visits < {bot_events:UInt32}, NULL,
    end_ms - start_ms < {bot_dwell_ms:Int64} * (visits - 1), 'no_dwell',
    visits > {bot_rate:UInt32} * 5 AND visits * 60000 > {bot_rate:UInt32} * (end_ms - start_ms), 'rate',
    NULL
)
