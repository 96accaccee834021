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

-- Keys under which other senders than charts sign their deliveries (Standard Webhooks). A signature is made anew to be
-- compared, so the key itself has to be there.
CREATE TABLE strategy_signing_keys (
    id          uuid PRIMARY KEY,
    strategy_id text NOT NULL REFERENCES strategies,
    sealed      bytea NOT NULL,                      -- AES-256-GCM: nonce || ciphertext; bound to the id
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz                          -- set when rotated: the overlap's end
);
CREATE INDEX strategy_signing_keys_strategy ON strategy_signing_keys (strategy_id);
