// Package postgres keeps the records of a keystore in PostgreSQL.
package postgres
