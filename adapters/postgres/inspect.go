package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/apex-tradebill/omni-secrets/migrations"
)

const selectClock = `SELECT clock_timestamp(), pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`

// Clock asks the server what time it is, and whether it only reads, as a standby does. It changes nothing.
func (s *Store) Clock(ctx context.Context) (now time.Time, readOnly bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	if err := s.pool.QueryRow(ctx, selectClock).Scan(&now, &readOnly); err != nil {
		return now, readOnly, fmt.Errorf("postgres: clock: %w", explain(err))
	}
	return now, readOnly, nil
}

// Rights is what the login of the database URL may do.
type Rights struct {
	Lacking        []string // what the server needs and the login has not, such as "INSERT on omni_secret_access_events"
	MayChangeTrail bool     // it could change or delete audit events, as the owner of their table could
}

// grant is a line of roles.sql that is about something of the schema.
var grant = regexp.MustCompile(`(?m)^GRANT ([A-Z, ]+) ON (SEQUENCE |FUNCTION |)(\w.*) TO omni_app;$`)

const selectLacking = `
SELECT privilege || ' on ' || object
FROM unnest($1::text[], $2::text[], $3::text[]) AS needed (kind, privilege, object)
WHERE NOT CASE kind
    WHEN 'SEQUENCE' THEN has_sequence_privilege(object, privilege)
    WHEN 'FUNCTION' THEN has_function_privilege(object, privilege)
    ELSE has_table_privilege(object, privilege)
END
ORDER BY object, privilege`

const selectMayChangeTrail = `
SELECT pg_has_role(relowner, 'USAGE') OR has_table_privilege(oid, 'UPDATE') OR has_table_privilege(oid, 'DELETE') OR
       has_table_privilege(oid, 'TRUNCATE')
FROM pg_class
WHERE oid = 'omni_secret_access_events'::regclass`

// Rights compares what the login may do with what roles.sql grants to the server. It needs the schema of today and
// changes nothing.
func (s *Store) Rights(ctx context.Context) (Rights, error) {
	var kinds, privileges, objects []string
	for _, line := range grant.FindAllStringSubmatch(migrations.PostgresRoles(), -1) {
		for privilege := range strings.SplitSeq(line[1], ", ") {
			for object := range strings.SplitSeq(line[3], ", ") {
				kinds = append(kinds, strings.TrimSpace(line[2]))
				privileges, objects = append(privileges, privilege), append(objects, object)
			}
		}
	}
	scan := func(row pgx.Row, lacking *string) error { return row.Scan(lacking) }
	lacking, err := read(ctx, s, "rights", scan, selectLacking, kinds, privileges, objects)
	if err != nil {
		return Rights{}, err
	}
	rights := Rights{Lacking: lacking}
	ctx, cancel := context.WithTimeout(ctx, s.pace.call)
	defer cancel()
	if err := s.pool.QueryRow(ctx, selectMayChangeTrail).Scan(&rights.MayChangeTrail); err != nil {
		return Rights{}, fmt.Errorf("postgres: rights: %w", explain(err))
	}
	return rights, nil
}
