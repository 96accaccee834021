-- Bans: whom an exchange told to stay away, and until when, so that every process stops and a restarted one knows.

CREATE TABLE bans (
    scope   text PRIMARY KEY,                        -- 'account:<uuid>', 'address:<venue> <REST origin> from <name>'
    until   timestamptz NOT NULL,                    -- database time only
    why     text NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now()
);
