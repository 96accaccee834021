-- Hedge mode: a long and a short of one symbol side by side. The book stays (account, symbol): what is asked of a symbol
-- is carried out in one order, whichever side it is about.

ALTER TABLE accounts ADD COLUMN margin_mode text CHECK (margin_mode IN ('cross', 'isolated'));  -- null: left as it is

ALTER TABLE intents   ADD COLUMN hedge boolean NOT NULL DEFAULT false;
ALTER TABLE orders    ADD COLUMN hedge boolean NOT NULL DEFAULT false;
ALTER TABLE positions ADD COLUMN hedge boolean NOT NULL DEFAULT false;
ALTER TABLE fills     ADD COLUMN position_side text CHECK (position_side IN ('long', 'short'));  -- null: not told

-- At most one live position of a symbol in one-way mode, one a side in hedge mode.
DROP INDEX positions_live;
CREATE UNIQUE INDEX positions_live ON positions (account_id, symbol, side) WHERE status <> 'closed';
CREATE UNIQUE INDEX positions_live_one_way ON positions (account_id, symbol) WHERE status <> 'closed' AND NOT hedge;
