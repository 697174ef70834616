// Package migrations holds the database schemas as goose migrations, one folder for each kind of database. A
// migration is never edited after it was released: a change is another file.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql postgres/0*.sql
var files embed.FS

//go:embed postgres/roles.sql
var postgresRoles string

// SQLite is the folder of the SQLite schema.
func SQLite() fs.FS { return folder("sqlite") }

// Postgres is the folder of the PostgreSQL schema.
func Postgres() fs.FS { return folder("postgres") }

// PostgresRoles is the script that gives the server's role in PostgreSQL its rights. It is not a migration: who
// may create roles is often not who migrates.
func PostgresRoles() string { return postgresRoles }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the name is no valid path: a mistake in this file
	}
	return sub
}
