-- A strategy may expect an alert every so often; people are told once when none comes, and once when one does again.

ALTER TABLE strategies ADD COLUMN silent_since timestamptz;  -- told of, and not over; null: nothing to tell
