-- A watcher reads all armed levels in pages, by position and id: each page begins where the one before ended, and what
-- follows need not be sorted for it.

DROP INDEX levels_armed;
CREATE INDEX levels_armed ON levels (position_id, id) WHERE status = 'armed';
