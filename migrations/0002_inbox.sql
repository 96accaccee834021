-- The inbox: each alert as it came, its key against duplicates, and what each book is asked to do about it.

CREATE TABLE alerts (
    id             uuid PRIMARY KEY,
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    strategy_id    text NOT NULL REFERENCES strategies,
    body           text NOT NULL,                    -- as it came, secret fields removed
    content_type   text NOT NULL,
    source         text NOT NULL,                    -- peer address
    format         text NOT NULL,
    signal         jsonb NOT NULL,                   -- the alert understood
    sent_at        timestamptz,                      -- the sender's own time, where it states one
    received_at    timestamptz NOT NULL DEFAULT now(),
    status         text NOT NULL DEFAULT 'received' CHECK (status IN
                   ('received', 'executing', 'done', 'refused', 'expired', 'superseded', 'needs_operator')),
    outcome_code   text,
    outcome_reason text,
    marks          jsonb NOT NULL DEFAULT '{}',      -- step -> instant
    finished_at    timestamptz
);
CREATE INDEX alerts_seq ON alerts (seq DESC);
CREATE INDEX alerts_strategy ON alerts (strategy_id, seq DESC);
CREATE INDEX alerts_unfinished ON alerts (seq) WHERE status IN ('received', 'executing');

CREATE TABLE alert_keys (
    strategy_id text NOT NULL,
    key         text NOT NULL,                       -- the sender's id, or a hash of the body
    body_hash   bytea NOT NULL,
    alert_id    uuid NOT NULL,
    windowed    boolean NOT NULL,                    -- hashes hold for 30 s, ids for ever
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (strategy_id, key)
);

CREATE TABLE leases (
    name       text PRIMARY KEY,                     -- e.g. 'worker:<uuid>', 'watcher:<feed>'
    holder     uuid NOT NULL,
    token      bigint NOT NULL,                      -- grows with every change of holder
    expires_at timestamptz NOT NULL                  -- database time only
);

CREATE TABLE books (
    account_id  uuid NOT NULL REFERENCES accounts,
    symbol      text NOT NULL,
    holder      uuid,                                -- the worker whose lease 'worker:<holder>' claims it
    token       bigint NOT NULL DEFAULT 0,           -- fences writes of a former holder
    epoch       bigint NOT NULL DEFAULT 0,           -- number of positions opened here
    PRIMARY KEY (account_id, symbol)
);

CREATE TABLE instructions (
    id             uuid PRIMARY KEY,
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    cause_kind     text NOT NULL CHECK (cause_kind IN ('alert', 'manual', 'level', 'protection')),
    cause_id       uuid NOT NULL,
    account_id     uuid NOT NULL REFERENCES accounts,
    symbol         text NOT NULL,                    -- normalised; the venue's own spelling is the instrument's
    strategy_id    text NOT NULL REFERENCES strategies,
    multiplier     numeric NOT NULL DEFAULT 1,
    request        jsonb NOT NULL,                   -- domain.signal.Signal
    position_id    uuid,                             -- only this position is meant (a late close must not touch a later one)
    status         text NOT NULL DEFAULT 'pending' CHECK (status IN
                   ('pending', 'executing', 'done', 'refused', 'expired', 'superseded', 'needs_operator')),
    attempts       int NOT NULL DEFAULT 0,
    failures       int NOT NULL DEFAULT 0,           -- attempts that ended in a bug, not in waiting
    outcome_code   text,
    outcome_reason text,                             -- set with the plan already when part of the wish was refused
    waits_for      text,                             -- why it was put off, for people
    created_at     timestamptz NOT NULL DEFAULT now(),
    retry_at       timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    UNIQUE (cause_kind, cause_id, account_id, symbol)
);
CREATE INDEX instructions_recent ON instructions (created_at);
CREATE INDEX instructions_waiting ON instructions (account_id, symbol, seq) WHERE status IN ('pending', 'executing');
