-- The user agents of one slice's events, and the numbers that stand for them.
SELECT DISTINCT assumeNotNull(user_agent) AS agent, cityHash64(agent) AS number
FROM events
WHERE isNotNull(user_agent) AND
    /* slice.sql */
