-- Version 1. Names are octets and are compared octet by octet, whatever the
-- encoding and the collation of the database. It runs with search_path at the
-- schema of the store.

CREATE TABLE records (
  kind    bytea  NOT NULL,
  km      bytea  NOT NULL,
  sae     bytea  NOT NULL,
  id      bytea  NOT NULL,
  due     bigint NOT NULL, -- Unix time in seconds; 0 is never
  version bigint NOT NULL, -- random, another one with every change
  value   bytea  NOT NULL, -- sealed by whoever uses the store
  PRIMARY KEY (kind, km, sae, id)
);

CREATE INDEX records_due ON records (km, sae, due) WHERE due<>0;

-- The IDs of keys that are taken are kept for ever, in few octets.

CREATE TABLE scopes (
  n   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  km  bytea NOT NULL,
  sae bytea NOT NULL,
  UNIQUE (km, sae)
);

CREATE TABLE claims ( -- UUIDs in their canonical spelling
  scope integer NOT NULL,
  id    uuid    NOT NULL,
  PRIMARY KEY (scope, id)
);

CREATE TABLE other_claims ( -- all other IDs
  scope integer NOT NULL,
  id    bytea   NOT NULL,
  PRIMARY KEY (scope, id)
);

-- How many commits each connection of a relay has made: the relay remembers it
-- too, and so notices a server that has lost some.

CREATE TABLE sessions (
  id      uuid   PRIMARY KEY,
  commits bigint NOT NULL,
  made    date   NOT NULL DEFAULT current_date
);
