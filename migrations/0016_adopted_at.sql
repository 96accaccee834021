-- When the exchange was asked for what is held, by its own clock: fills of before are in the quantity that was adopted,
-- however late they are listed.

ALTER TABLE positions ADD COLUMN adopted_at timestamptz;
