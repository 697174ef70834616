// Package migrations holds the database schemas as goose migrations, one folder for each kind of database. A
// migration is never edited after it was released: a change is another file.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql
var files embed.FS

// SQLite is the folder of the SQLite schema.
func SQLite() fs.FS { return folder("sqlite") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the name is no valid path: a mistake in this file
	}
	return sub
}
