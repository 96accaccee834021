-- Blindness: of what nothing true is heard just now. The watcher writes it down, openings ask it.

CREATE TABLE blind (
    market text NOT NULL,             -- '<venue> <REST origin>', see market_of()
    symbol text NOT NULL,             -- '' means all of the market
    why    text NOT NULL,             -- a sentence for a person
    since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (market, symbol)
);
