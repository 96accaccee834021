-- Differences between what we hold and what the exchange holds, see app/domain/drift.py. Each is told once.

CREATE TABLE drifts (
    id          uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts,
    symbol      text NOT NULL,
    side        text NOT NULL CHECK (side IN ('long', 'short')),
    kind        text NOT NULL CHECK (kind IN
                ('closed_outside', 'size_differs', 'foreign_position', 'missing_stop', 'orphan_stop')),
    status      text NOT NULL CHECK (status IN ('needs_operator', 'healed', 'gone', 'adopted')),
    position_id uuid,
    detail      text NOT NULL,                       -- a sentence for a person
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz
);
CREATE UNIQUE INDEX drifts_open ON drifts (account_id, symbol, side, kind) WHERE status = 'needs_operator';
CREATE INDEX drifts_seen ON drifts (seen_at DESC, id);

-- What was taken under management without fills of ours: fills + adopted_qty = quantity.
ALTER TABLE positions ADD COLUMN adopted_qty numeric NOT NULL DEFAULT 0;

-- A close of an ended position may still be on its way from a watcher that has not heard of the end. Until the watcher
-- has let go of it, or has to have, nothing new is opened on its side.
ALTER TABLE positions ADD COLUMN ended_at timestamptz;       -- when its end was written here
ALTER TABLE positions ADD COLUMN released_at timestamptz;    -- when the watcher let go of it
CREATE INDEX positions_held_on ON positions (ended_at) WHERE status = 'closed' AND released_at IS NULL;

-- The neighbours of an alert in its book.
CREATE INDEX instructions_book ON instructions (account_id, symbol, seq DESC);
CREATE INDEX positions_closed ON positions (account_id, closed_at) WHERE status = 'closed';
