-- Several orders in one alert: one instruction for each, account by account, carried out in their sequence.

ALTER TABLE alerts ADD COLUMN more_signals jsonb NOT NULL DEFAULT '[]';  -- the orders after `signal`, in their sequence

ALTER TABLE instructions ADD COLUMN leg int NOT NULL DEFAULT 0;  -- which of its cause's orders it is
ALTER TABLE instructions DROP CONSTRAINT instructions_cause_kind_cause_id_account_id_symbol_key;
CREATE UNIQUE INDEX instructions_cause ON instructions (cause_kind, cause_id, account_id, symbol, leg);
