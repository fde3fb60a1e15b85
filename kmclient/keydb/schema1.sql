-- Version 1. Text is compared octet by octet.

CREATE TABLE pools (
  id   INTEGER PRIMARY KEY,
  name TEXT    NOT NULL UNIQUE,
  keys INTEGER NOT NULL          -- how many it has, so that nobody has to count
) STRICT;

CREATE TABLE keys (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of their storing
  id      TEXT    NOT NULL UNIQUE,           -- canonical
  spelled TEXT    NOT NULL,                  -- as it was given
  pool    INTEGER NOT NULL,
  master  TEXT    NOT NULL,                  -- SAE that has got the key; '' without a grant
  waiting INTEGER NOT NULL,                  -- SAEs that have not yet
  made    INTEGER NOT NULL,                  -- Unix time in microseconds; 0 is unknown
  octets  BLOB    NOT NULL
) STRICT;

CREATE INDEX keys_of_pool ON keys (pool);

-- Who may fetch a key, and who has done so.
CREATE TABLE readers (
  key     INTEGER NOT NULL,
  sae     TEXT    NOT NULL,
  fetched INTEGER NOT NULL,
  PRIMARY KEY (key, sae)
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
  name  TEXT    PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
