-- Exits by time, and trailing take profits whose callback shrinks.

ALTER TABLE levels DROP CONSTRAINT levels_kind_check;
ALTER TABLE levels ADD CONSTRAINT levels_kind_check CHECK
    (kind IN ('stop_loss', 'take_profit', 'trailing_stop', 'trailing_take_profit', 'break_even', 'time_exit'));
ALTER TABLE levels
    ADD COLUMN min_factor numeric NOT NULL DEFAULT 1,  -- trailing_take_profit: the least that is left of distance_pct
    ADD COLUMN decay_pct  numeric,                     --   gain in per cent by which the rest falls to 1/e; null: never
    ADD COLUMN due_at     timestamptz;                 -- time_exit
