-- Version 3: a key ID has one use, to encrypt or to decrypt, so the IDs of
-- receiving keys are claimed too. Those of keys whose tombstones are gone are not
-- known any more. From this version on, key IDs that are no UUIDs have other names,
-- which can't be made here, so that a used one would not be known again: a file that
-- has some stays as it is.

CREATE TABLE others (
  n INTEGER CONSTRAINT "some of its key IDs are no UUIDs, which can't be taken over: begin with a new store" CHECK (n=0)
) STRICT;

INSERT INTO others SELECT count(*) FROM (
  SELECT 1 FROM claims WHERE typeof(id)='text' UNION ALL
  SELECT 1 FROM records WHERE kind='receive' AND (length(id)<>36 OR id NOT GLOB '????????-????-????-????-????????????'
    OR length(replace(id, '-', ''))<>32 OR replace(id, '-', '') GLOB '*[^0-9a-f]*'));

DROP TABLE others;

INSERT INTO scopes (km, sae) SELECT DISTINCT km, sae FROM records WHERE kind='receive'
  ON CONFLICT DO NOTHING;

INSERT INTO claims (scope, id)
  SELECT n, unhex(replace(id, '-', ''))
  FROM records JOIN scopes USING (km, sae) WHERE kind='receive'
  ON CONFLICT DO NOTHING;
