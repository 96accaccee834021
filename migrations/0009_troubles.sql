-- What people were told of an account and is not over: said once when it begins, and once when it is over.

CREATE TABLE troubles (
    account_id uuid NOT NULL REFERENCES accounts,
    symbol     text NOT NULL,                        -- '' for the account's key, else an instrument that is held
    why        text NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, symbol)
);
