-- The life of a position: intents, their orders, fills, the position they fold into, the levels that end it.

CREATE TABLE intents (
    id             uuid PRIMARY KEY,
    cause_kind     text NOT NULL CHECK (cause_kind IN ('instruction', 'level')),
    cause_id       uuid NOT NULL,
    leg            int NOT NULL,                     -- 0, 1, ... in the order in which they are executed
    account_id     uuid NOT NULL REFERENCES accounts,
    symbol         text NOT NULL,
    strategy_id    text NOT NULL REFERENCES strategies,
    position_id    uuid NOT NULL,                    -- the position it opens or closes; a row there from its first fill on
    position_side  text NOT NULL CHECK (position_side IN ('long', 'short')),
    kind           text NOT NULL CHECK (kind IN ('open', 'add', 'reduce', 'close')),
    reason         text NOT NULL,                    -- what a close becomes in positions.close_reason
    side           text NOT NULL CHECK (side IN ('buy', 'sell')),
    qty            numeric NOT NULL CHECK (qty > 0),
    leverage       numeric,
    exits          jsonb,                            -- levels to arm, for an opening
    native_stop    numeric,                          -- price of the stop that rides on the entry
    status         text NOT NULL CHECK (status IN
                   ('armed', 'planned', 'done', 'refused', 'expired', 'disarmed', 'needs_operator')),
    outcome_code   text,
    outcome_reason text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    UNIQUE (cause_kind, cause_id, leg)
);
CREATE INDEX intents_position ON intents (position_id);

CREATE TABLE orders (
    id              uuid PRIMARY KEY,
    intent_id       uuid NOT NULL REFERENCES intents,
    attempt         int NOT NULL,
    client_order_id text NOT NULL UNIQUE,
    account_id      uuid NOT NULL REFERENCES accounts,
    symbol          text NOT NULL,
    side            text NOT NULL CHECK (side IN ('buy', 'sell')),
    qty             numeric NOT NULL CHECK (qty > 0),
    reduce_only     boolean NOT NULL,
    stop_loss       numeric,
    status          text NOT NULL CHECK (status IN
                    ('armed', 'sent', 'unknown', 'accepted', 'filled', 'cancelled', 'rejected', 'absent', 'disarmed')),
    venue_order_id  text,
    filled_qty      numeric NOT NULL DEFAULT 0,
    avg_price       numeric,
    venue_code      text,
    reason          text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz,
    answered_at     timestamptz,
    finished_at     timestamptz,
    UNIQUE (intent_id, attempt)
);
CREATE INDEX orders_unresolved ON orders (account_id, symbol) WHERE status IN ('sent', 'unknown', 'accepted');
CREATE INDEX orders_doubtful ON orders (account_id, answered_at) WHERE status = 'absent';
-- Never two unresolved opening orders for one intent: the second INSERT fails.
CREATE UNIQUE INDEX orders_one_opening ON orders (intent_id)
    WHERE NOT reduce_only AND status IN ('sent', 'unknown', 'accepted');

CREATE TABLE positions (
    id             uuid PRIMARY KEY,
    account_id     uuid NOT NULL REFERENCES accounts,
    strategy_id    text NOT NULL REFERENCES strategies,
    symbol         text NOT NULL,
    side           text NOT NULL CHECK (side IN ('long', 'short')),
    epoch          bigint NOT NULL,
    status         text NOT NULL CHECK (status IN ('opening', 'open', 'closing', 'closed')),
    qty            numeric NOT NULL CHECK (qty >= 0),
    qty_opened     numeric NOT NULL,                 -- sum of opening fills
    entry_price    numeric NOT NULL,                 -- average over the opening fills, weighted by what is still held
    realized_pnl   numeric NOT NULL DEFAULT 0,       -- quote currency, before fees
    fees           numeric NOT NULL DEFAULT 0,       -- quote currency, paid is positive
    leverage       numeric,
    exits          jsonb NOT NULL,
    native_stop    numeric,                          -- price confirmed by the venue; null: none rests there
    opened_at      timestamptz NOT NULL,
    closed_at      timestamptz,
    close_reason   text CHECK (close_reason IN
                   ('stop_loss', 'take_profit', 'trailing_stop', 'break_even', 'time_exit', 'signal', 'reversed',
                    'manual', 'native_stop', 'liquidated', 'external', 'unprotected')),
    UNIQUE (account_id, symbol, epoch)
);
CREATE UNIQUE INDEX positions_live ON positions (account_id, symbol) WHERE status <> 'closed';
CREATE INDEX positions_opened ON positions (opened_at DESC, id);

CREATE TABLE fills (
    account_id      uuid NOT NULL REFERENCES accounts,
    symbol          text NOT NULL,
    venue_fill_id   text NOT NULL,
    order_id        uuid REFERENCES orders,          -- null: not ours (native stop, liquidation, a hand)
    position_id     uuid REFERENCES positions,
    venue_order_id  text NOT NULL,
    client_order_id text,
    origin          text NOT NULL CHECK (origin IN ('order', 'native_stop', 'liquidation', 'adl', 'external')),
    side            text NOT NULL CHECK (side IN ('buy', 'sell')),
    qty             numeric NOT NULL CHECK (qty > 0),
    price           numeric NOT NULL CHECK (price > 0),
    fee             numeric NOT NULL,
    fee_currency    text NOT NULL,
    filled_at       timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, symbol, venue_fill_id)  -- a fill is counted once
);
CREATE INDEX fills_position ON fills (position_id, filled_at);
CREATE INDEX fills_order ON fills (order_id);

CREATE TABLE levels (
    id               uuid PRIMARY KEY,
    position_id      uuid NOT NULL REFERENCES positions,
    kind             text NOT NULL CHECK (kind IN ('stop_loss', 'take_profit', 'trailing_stop', 'break_even')),
    rung             int NOT NULL DEFAULT 0,         -- place in the take-profit ladder
    fraction         numeric NOT NULL CHECK (fraction > 0 AND fraction <= 1),
    qty              numeric NOT NULL,               -- base units that its closing order carries
    price            numeric,                        -- null: a trailing stop that has seen no price yet
    activation_price numeric,                        -- sleeps until the price has been here
    distance         numeric,                        -- trailing: absolute, or
    distance_pct     numeric,                        --   per cent of the extreme
    extreme          numeric,                        -- best price since activation; null: not yet active
    extreme_at       timestamptz,                    -- exchange time up to which trades are in it; null: as armed
    trigger_by       text NOT NULL DEFAULT 'last' CHECK (trigger_by IN ('last', 'mark', 'bid', 'ask')),
    status           text NOT NULL CHECK (status IN ('armed', 'triggered', 'done', 'disarmed')),
    intent_id        uuid NOT NULL,
    order_id         uuid NOT NULL,                  -- the closing order, durable since the level was armed
    armed_at         timestamptz NOT NULL DEFAULT now(),
    triggered_at     timestamptz,
    trigger_price    numeric,
    trigger_trade_id text,
    UNIQUE (position_id, kind, rung)
);
CREATE INDEX levels_intent ON levels (intent_id);
CREATE INDEX levels_armed ON levels (position_id) WHERE status = 'armed';

CREATE TABLE events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,
    position_id uuid,
    alert_id    uuid,
    account_id  uuid,
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_position ON events (position_id, id) WHERE position_id IS NOT NULL;
CREATE INDEX events_alert ON events (alert_id, id) WHERE alert_id IS NOT NULL;
