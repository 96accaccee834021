-- Who may use it, which exchange accounts it trades, and what an alert is addressed to.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    password_hash text NOT NULL,                     -- Argon2id, PHC string
    role          text NOT NULL CHECK (role IN ('viewer', 'trader', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE refresh_tokens (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users,
    token_hash bytea NOT NULL UNIQUE,                -- keyed hash; the token itself is never stored
    family     uuid NOT NULL,                        -- one login; a reused token revokes its whole family
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);

CREATE TABLE accounts (
    id            uuid PRIMARY KEY,
    name          text NOT NULL,
    venue         text NOT NULL CHECK (venue IN ('bybit', 'binance')),
    environment   text NOT NULL CHECK (environment IN ('mainnet', 'testnet', 'demo', 'simulator', 'custom')),
    rest_url      text,                              -- origins, with environment 'custom' only
    ws_url        text,
    credentials   bytea NOT NULL,                    -- AES-256-GCM: nonce || ciphertext; bound to the id
    position_mode text NOT NULL DEFAULT 'one_way' CHECK (position_mode IN ('one_way', 'hedge')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    removed_at    timestamptz                        -- history keeps pointing here
);
CREATE UNIQUE INDEX accounts_name ON accounts (name) WHERE removed_at IS NULL;

CREATE TABLE strategies (
    id         text PRIMARY KEY,                     -- the public slug in the webhook's path
    name       text NOT NULL,
    format     text NOT NULL DEFAULT 'auto',
    symbols    text[],                               -- null: any
    defaults   jsonb NOT NULL DEFAULT '{}',
    limits     jsonb NOT NULL DEFAULT '{}',
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);

CREATE TABLE strategy_secrets (
    id          uuid PRIMARY KEY,
    strategy_id text NOT NULL REFERENCES strategies,
    secret_hash bytea NOT NULL,                      -- HMAC-SHA256 under a key outside the database
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz                          -- set when rotated: the overlap's end
);
CREATE INDEX strategy_secrets_strategy ON strategy_secrets (strategy_id);

CREATE TABLE strategy_accounts (
    strategy_id text NOT NULL REFERENCES strategies,
    account_id  uuid NOT NULL REFERENCES accounts,
    multiplier  numeric NOT NULL DEFAULT 1 CHECK (multiplier > 0),
    PRIMARY KEY (strategy_id, account_id)
);
CREATE INDEX strategy_accounts_account ON strategy_accounts (account_id);
