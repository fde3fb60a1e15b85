-- Version 2: where a key stands in its life.

ALTER TABLE keys ADD COLUMN state INTEGER NOT NULL DEFAULT 0; -- 0 stored, or not known; 1 handed out; 2 fetched by its ID
