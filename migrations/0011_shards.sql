-- Several watchers share the symbols: each tells what is dark under the lease of the shard that a symbol belongs to.
-- What was told before is dropped: whoever watches tells all of it anew at its start.

DROP TABLE blind;
CREATE TABLE blind (
    market text NOT NULL,             -- '<venue> <REST origin>', see market_of()
    lease  text NOT NULL,             -- 'watcher:00' …, see app/domain/shards.py
    symbol text NOT NULL,             -- '' means all of the market that belongs to the lease
    why    text NOT NULL,             -- a sentence for a person
    since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (market, lease, symbol)
);
