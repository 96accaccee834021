-- What has to stay the same when the master key changes. Neither key opens or admits anything.

CREATE TABLE installation (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    install    bytea NOT NULL,                       -- names this installation in client order ids
    body       bytea NOT NULL,                       -- under which bodies of alerts are hashed
    created_at timestamptz NOT NULL DEFAULT now()
);
