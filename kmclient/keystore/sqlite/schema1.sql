-- Version 1. Text is compared octet by octet.

CREATE TABLE records (
  seq     INTEGER PRIMARY KEY,
  kind    TEXT    NOT NULL,
  km      TEXT    NOT NULL,
  sae     TEXT    NOT NULL,
  id      TEXT    NOT NULL,
  due     INTEGER NOT NULL, -- Unix time in seconds; 0 is never
  version INTEGER NOT NULL, -- random, another one with every change
  value   BLOB    NOT NULL  -- sealed by whoever uses the file
) STRICT;

CREATE UNIQUE INDEX records_name ON records (kind, km, sae, id);
CREATE INDEX records_due ON records (km, sae, due) WHERE due<>0;
