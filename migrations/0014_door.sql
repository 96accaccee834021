-- What was refused at the door is kept for its sender to see: the newest of each strategy, for a month.

CREATE TABLE rejected_alerts (
    id           uuid PRIMARY KEY,                   -- in the order of arrival: UUIDv7
    strategy_id  text NOT NULL REFERENCES strategies,
    code         text NOT NULL,                      -- as answered
    reason       text NOT NULL,
    field        text,
    body         text NOT NULL,                      -- its beginning as text, secrets removed
    body_bytes   int NOT NULL,                       -- of the whole
    content_type text NOT NULL,
    source       text NOT NULL,                      -- peer address
    received_at  timestamptz NOT NULL
);
CREATE INDEX rejected_alerts_strategy ON rejected_alerts (strategy_id, id DESC);
