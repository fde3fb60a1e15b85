-- Version 2: the IDs of sending keys, which are kept for ever, in few octets.

CREATE TABLE scopes (
  n   INTEGER PRIMARY KEY,
  km  TEXT NOT NULL,
  sae TEXT NOT NULL,
  UNIQUE (km, sae)
) STRICT;

CREATE TABLE claims (
  scope INTEGER NOT NULL,
  id    ANY     NOT NULL, -- a blob of 16 octets for a UUID in its canonical spelling, else the text
  PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;

INSERT INTO scopes (km, sae) SELECT DISTINCT km, sae FROM records WHERE kind='send';

INSERT INTO claims (scope, id)
  SELECT n, iif(length(id)=36 AND id GLOB '????????-????-????-????-????????????'
      AND length(replace(id, '-', ''))=32 AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*',
    unhex(replace(id, '-', '')), id)
  FROM records JOIN scopes USING (km, sae) WHERE kind='send';

DELETE FROM records WHERE kind='send';
