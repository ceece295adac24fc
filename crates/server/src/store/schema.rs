//! The tables, as numbered migrations. A migration that has been released is never edited: a
//! change is a new one at the end.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

const FIRST: &str = "
CREATE TABLE trust_domain (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    name            TEXT NOT NULL
) STRICT;

CREATE TABLE authorities (
    id              TEXT PRIMARY KEY,
    certificate     BLOB NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'old')),
    not_before      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    key_file        TEXT
) STRICT;
CREATE UNIQUE INDEX one_active ON authorities (state) WHERE state = 'active';
CREATE UNIQUE INDEX one_prepared ON authorities (state) WHERE state = 'prepared';

CREATE TABLE bundle (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    sequence        INTEGER NOT NULL,
    refresh_hint    INTEGER NOT NULL
) STRICT;
INSERT INTO bundle (one, sequence, refresh_hint) VALUES (1, 0, 300);

CREATE TABLE entries (
    spiffe_id       TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    selectors       TEXT NOT NULL,
    since           INTEGER NOT NULL
) STRICT;

CREATE TABLE issued (
    serial          TEXT PRIMARY KEY,
    spiffe_id       TEXT NOT NULL,
    not_before      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    issued_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX issued_by_end ON issued (not_after);

CREATE TABLE peer_bundles (
    trust_domain    TEXT PRIMARY KEY,
    sequence        TEXT,
    document        TEXT NOT NULL,
    fetched_at      INTEGER NOT NULL,
    bootstrap       BLOB
) STRICT;
";

const CLOCK: &str = "
CREATE TABLE clock (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    wall_ms         INTEGER NOT NULL,
    boot_ms         INTEGER NOT NULL,
    boot_id         TEXT NOT NULL,
    followed        INTEGER
) STRICT;
";

const BELIEVED: &str = "ALTER TABLE clock ADD COLUMN believed INTEGER;";

/// Before, all entries were the site file's, each of a SPIFFE ID of its own.
const SOURCES: &str = "
CREATE TABLE entry_set (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    version         INTEGER NOT NULL
) STRICT;
INSERT INTO entry_set (one, version) VALUES (1, 0);

ALTER TABLE entries RENAME TO entries_before;
CREATE TABLE entries (
    id              TEXT PRIMARY KEY,
    source          TEXT NOT NULL,
    spiffe_id       TEXT NOT NULL,
    kind            TEXT NOT NULL,
    hint            TEXT NOT NULL,
    selectors       TEXT NOT NULL,
    revision        INTEGER NOT NULL,
    since           INTEGER NOT NULL
) STRICT;
INSERT INTO entries (id, source, spiffe_id, kind, hint, selectors, revision, since)
    SELECT CASE kind WHEN 'server' THEN 'file.server' ELSE 'file.' || kind || '.' || name END,
           'file', spiffe_id, kind,
           CASE kind WHEN 'server' THEN 'server' ELSE name END,
           selectors, 0, since
    FROM (SELECT *, substr(rest, instr(rest, '/') + 1) AS name
          FROM (SELECT *, substr(spiffe_id, length('spiffe://') + 1) AS rest
                FROM entries_before));
DROP TABLE entries_before;
";

const DEFAULTS: &str = "ALTER TABLE entries ADD COLUMN is_default INTEGER NOT NULL DEFAULT 0;";

/// Entries say which processes may ask for them, and nodes join. Before, all were for the one
/// process of the site.
const NODES: &str = "
ALTER TABLE entries ADD COLUMN placement TEXT NOT NULL DEFAULT '\"everywhere\"';
UPDATE entries SET placement = '\"server\"' WHERE kind IN ('server', 'service');

CREATE TABLE join_tokens (
    hash            BLOB PRIMARY KEY,
    node            TEXT,
    ends_at         INTEGER NOT NULL,
    used_at         INTEGER
) STRICT;

CREATE TABLE agents (
    spiffe_id       TEXT PRIMARY KEY,
    attestor        TEXT NOT NULL,
    serial          TEXT NOT NULL,
    next_serial     TEXT,
    not_after       INTEGER NOT NULL,
    attested_at     INTEGER NOT NULL,
    banned          INTEGER NOT NULL,
    release         TEXT NOT NULL
) STRICT;
";

/// Callers of the API make entries with more attributes than the site file has.
const ATTRIBUTES: &str = "ALTER TABLE entries ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';";

/// What was seen of sites that are known by their identity.
const SITES: &str = "
CREATE TABLE sites (
    identity        TEXT PRIMARY KEY,
    seen            TEXT NOT NULL,
    record          BLOB,
    fetched_at      INTEGER NOT NULL
) STRICT;
";

pub(super) fn migrator() -> Migrator {
    let migration = |number, name: &'static str, text: &'static str| {
        let kind = MigrationType::Simple;
        Migration::new(number, name.into(), kind, text.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "first", FIRST),
        migration(2, "clock", CLOCK),
        migration(3, "believed", BELIEVED),
        migration(4, "sources of entries", SOURCES),
        migration(5, "default identities", DEFAULTS),
        migration(6, "nodes", NODES),
        migration(7, "attributes of entries", ATTRIBUTES),
        migration(8, "sites", SITES),
    ])
}
