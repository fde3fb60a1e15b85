-- Version 3: a key ID has one use, to encrypt or to decrypt, so the IDs of
-- receiving keys are claimed too. Those of keys whose tombstones are gone are not
-- known any more. From this version on, key IDs that are no UUIDs have other names,
-- which can't be made here: what is under the old ones can be listed and exported.

INSERT INTO scopes (km, sae) SELECT DISTINCT km, sae FROM records WHERE kind='receive'
  ON CONFLICT DO NOTHING;

INSERT INTO claims (scope, id)
  SELECT n, iif(length(id)=36 AND id GLOB '????????-????-????-????-????????????'
      AND length(replace(id, '-', ''))=32 AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*',
    unhex(replace(id, '-', '')), id)
  FROM records JOIN scopes USING (km, sae) WHERE kind='receive'
  ON CONFLICT DO NOTHING;
