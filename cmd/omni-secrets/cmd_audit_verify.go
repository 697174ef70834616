package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/service"
)

// wireCheckpoint is a checkpoint as 'audit checkpoints -o json' and the log write it.
type wireCheckpoint struct {
	Chain     string    `json:"chain"`
	Replica   string    `json:"replica"`
	Seq       int64     `json:"seq"`
	Hash      string    `json:"hash"`
	SignedAt  time.Time `json:"signedAt"`
	KeyID     string    `json:"keyId"`
	Signature string    `json:"signature"`
}

func (w wireCheckpoint) checkpoint() (c domain.Checkpoint, err error) {
	var errs [3]error
	c = domain.Checkpoint{ReplicaID: w.Replica, Seq: w.Seq, SignedAt: w.SignedAt, KeyID: w.KeyID}
	c.Chain, errs[0] = domain.ParseChainID(w.Chain)
	c.Hash, errs[1] = domain.ParseChainHash(w.Hash)
	c.Signature, errs[2] = base64.StdEncoding.DecodeString(w.Signature)
	return c, errors.Join(errs[:]...)
}

func newAuditCheckpointsCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoints",
		Short: "Print the signed checkpoints of the audit trail",
		Long: `Prints the signed checkpoints of the database that DATABASE_URL names, by chain and place, to keep them where who owns the
database has no access. 'audit verify --checkpoints FILE' holds the trail against such a copy. The servers log the same
as omni.audit.checkpoint; what collects their logs is such a copy, too.`,
		Example: `  DATABASE_URL=sqlite:/var/lib/omni-secrets/state.db omni-secrets audit checkpoints -o json > checkpoints.json`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withInspected(cmd.Context(), s, s.printCheckpoints)
		},
	}
}

// withInspected opens the database that DATABASE_URL names, to look at it, for f.
func withInspected(ctx context.Context, s *streams, f func(context.Context, database) error) (err error) {
	url := s.env("DATABASE_URL")
	if err := checkDatabaseURL(url); err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	db, err := inspectDatabase(ctx, url)
	if err != nil {
		return &exitError{code: exitUnavailable, err: err, next: "check DATABASE_URL, and that this user may read the database"}
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.CheckSchema(ctx); err != nil {
		return err
	}
	return f(ctx, db)
}

func (s *streams) printCheckpoints(ctx context.Context, db database) error {
	points, err := db.Checkpoints(ctx)
	if err != nil {
		return err
	}
	all := make([]wireCheckpoint, 0, len(points))
	t := table{columns: []string{"SIGNED", "REPLICA", "CHAIN", "SEQ", "HASH", "KEY"}}
	for _, p := range points {
		all = append(all, wireCheckpoint{
			p.Chain.String(), p.ReplicaID, p.Seq, p.Hash.String(), p.SignedAt, p.KeyID, base64.StdEncoding.EncodeToString(p.Signature),
		})
		t.add(instant(&p.SignedAt), p.ReplicaID, p.Chain.String(), strconv.FormatInt(p.Seq, 10), p.Hash.String(), p.KeyID)
	}
	if s.json() {
		return s.printValue(map[string]any{"checkpoints": all})
	}
	return t.flush(s.out)
}

const auditVerifyLong = `Checks every row of the audit trail in the database that DATABASE_URL names: that none was edited, removed, reordered, cut
off or put in since it was stored. It reads the database and changes nothing; servers may go on meanwhile.

Each replica's events are a chain: an event's hash covers the one before it. Checkpoints are signed statements of where a chain
ended; without them, who owns the database can change a row and make all that follows fit. Give the public key of
OMNI_AUDIT_SIGNING_KEY, and better also a copy of the checkpoints that was kept elsewhere (--checkpoints): what
'audit checkpoints -o json' printed earlier, or the servers' log. docs/audit-chain.md says what can be found and what cannot.

What is wrong is named by kind, replica, place in the chain and event, and the check goes on to find the rest:

  edited      a column or the link of this row was changed
  removed     these places of the chain are missing
  cut_off     the last events of the chain are missing
  reordered   this row is not in its place
  inserted    this row was put in
  duplicate   this row claims a place that another one holds
  unlinked    this row was stored without a link after links had begun
  rewritten   a checkpoint, or the head of the chain, has another hash than the row: these were changed and made to fit
  checkpoint  no given public key verifies this checkpoint

The exit code is 0 when nothing was found, and 9 when something was.`

func newAuditVerifyCommand(s *streams) *cobra.Command {
	var keys, files []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nobody changed the audit trail",
		Long:  auditVerifyLong,
		Example: `  DATABASE_URL=$AUDITOR_URL omni-secrets audit verify --public-key $OMNI_AUDIT_PUBLIC_KEY
  omni-secrets audit verify --checkpoints ./checkpoints.json --checkpoints ./omni-0.log -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			proof, err := auditProof(s, keys, files)
			if err != nil {
				return err
			}
			return withInspected(cmd.Context(), s, func(ctx context.Context, db database) error { return s.verifyAudit(ctx, db, proof) })
		},
	}
	cmd.Flags().StringSliceVar(&keys, "public-key", nil, "check signatures with this `KEY`, or one of several; instead of "+auditPublicKeyEnv)
	cmd.Flags().StringArrayVar(&files, "checkpoints", nil, "hold the trail against the checkpoints in `FILE` too; may be repeated")
	return cmd
}

// auditProof is what the flags and the environment give to hold the trail against.
func auditProof(s *streams, keys, files []string) (proof service.AuditProof, err error) {
	given := s.setting("public-key", strings.Join(keys, ","), auditPublicKeyEnv)
	for text := range strings.SplitSeq(given.value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, err := domain.ParseCheckpointPublicKey(text)
		if err != nil {
			return proof, given.wrong("%w", err)
		}
		proof.Keys = append(proof.Keys, key)
	}
	if len(files) > 0 && len(proof.Keys) == 0 {
		return proof, usageErrorf("--checkpoints needs --public-key or %s: without it anybody could have written them", auditPublicKeyEnv)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return proof, usageErrorf("--checkpoints: %w", err)
		}
		points, err := readCheckpoints(f)
		_ = f.Close() // it was only read
		if err == nil && len(points) == 0 {
			err = errors.New("there is no checkpoint in it")
		}
		if err != nil {
			return proof, usageErrorf("--checkpoints %s: %w", name, err)
		}
		proof.Copies = append(proof.Copies, points...)
	}
	return proof, nil
}

// maxCheckpointLine bounds a line of a file of checkpoints: 'audit checkpoints' prints all of them on one.
const maxCheckpointLine = 256 << 20

// readCheckpoints reads what 'audit checkpoints -o json' printed, or a log in which omni.audit.checkpoint are some of the
// lines. Lines that are no JSON, or of something else, are passed over.
func readCheckpoints(r io.Reader) ([]domain.Checkpoint, error) {
	var all []domain.Checkpoint
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxCheckpointLine)
	for n := 1; lines.Scan(); n++ {
		var line struct {
			Message     string           `json:"msg"`
			Checkpoints []wireCheckpoint `json:"checkpoints"`
			wireCheckpoint
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Message == domain.EventAuditCheckpoint {
			line.Checkpoints = append(line.Checkpoints, line.wireCheckpoint)
		}
		for _, w := range line.Checkpoints {
			c, err := w.checkpoint()
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			all = append(all, c)
		}
	}
	return all, lines.Err()
}

// verified is the result of audit verify as JSON.
type verified struct {
	Rows     int64             `json:"rows"`
	Unlinked int64             `json:"unlinked"` // from before there were links
	Chains   []verifiedChain   `json:"chains"`
	Findings []verifiedFinding `json:"findings"`
	More     int               `json:"moreFindings"` // that are not listed
	Notes    []string          `json:"notes"`        // what could not be told
}

type verifiedChain struct {
	Chain       string     `json:"chain"`
	Replica     string     `json:"replica"`
	Rows        int64      `json:"rows"`
	FirstSeq    int64      `json:"firstSeq"`
	LastSeq     int64      `json:"lastSeq"`
	Checkpoints int64      `json:"checkpoints"` // that confirmed a row
	SignedSeq   int64      `json:"signedSeq"`
	SignedAt    *time.Time `json:"signedAt"`
}

type verifiedFinding struct {
	Kind    domain.Tampering `json:"kind"`
	Chain   string           `json:"chain,omitempty"`
	Replica string           `json:"replica"`
	Seq     int64            `json:"seq"`
	LastSeq int64            `json:"lastSeq"`
	Row     int64            `json:"row"`
	EventID string           `json:"eventId"`
	Detail  string           `json:"detail"`
}

func (s *streams) verifyAudit(ctx context.Context, db database, proof service.AuditProof) error {
	proof.Progress = newAuditProgress(s, time.Now).page
	check, err := service.VerifyAudit(ctx, db, proof)
	if err != nil {
		return err
	}
	v := summed(check, proof)
	if s.json() {
		err = s.printValue(v)
	} else {
		err = s.printVerified(v)
	}
	if n := len(v.Findings) + v.More; err == nil && n > 0 {
		return (&exitError{code: exitTampered, err: fmt.Errorf("the audit trail was changed: %d findings", n)}).
			try("keep the database as it is, and follow the runbook: the audit trail was changed")
	}
	return err
}

func summed(check *domain.ChainCheck, proof service.AuditProof) verified {
	v := verified{Chains: []verifiedChain{}, Findings: []verifiedFinding{}, Notes: []string{}}
	v.Rows, v.Unlinked = check.Rows()
	var unsigned int64
	confirmed := int64(0)
	for _, c := range check.Chains() {
		chain := verifiedChain{
			Chain: c.Chain.String(), Replica: c.ReplicaID, Rows: c.Rows, FirstSeq: c.First, LastSeq: c.Seq, Checkpoints: c.Checkpoints, SignedSeq: c.SignedSeq,
		}
		if !c.SignedAt.IsZero() {
			chain.SignedAt = &c.SignedAt
		}
		confirmed += c.Checkpoints
		unsigned += max(0, c.Seq-c.SignedSeq)
		v.Chains = append(v.Chains, chain)
	}
	listed, more := check.Findings()
	v.More = more
	for _, f := range listed {
		one := verifiedFinding{Kind: f.Kind, Replica: f.ReplicaID, Seq: f.Seq, LastSeq: f.LastSeq, Row: f.Row, EventID: f.EventID, Detail: f.Detail}
		if f.Chain != 0 {
			one.Chain = f.Chain.String()
		}
		v.Findings = append(v.Findings, one)
	}
	note := func(format string, args ...any) { v.Notes = append(v.Notes, fmt.Sprintf(format, args...)) }
	switch {
	case len(proof.Keys) == 0:
		note("no public key was given: signatures were not checked, and who owns the database could have rewritten everything; give --public-key or %s", auditPublicKeyEnv)
	case confirmed == 0 && v.Rows > v.Unlinked:
		note("no checkpoint confirms any of this: who owns the database could have rewritten everything; give the servers %s", auditKeyEnv)
	case len(proof.Copies) == 0:
		note("the checkpoints are the database's own: who owns it could have removed the last ones with the rows that they confirm; --checkpoints takes a copy")
	}
	if unsigned > 0 && confirmed > 0 {
		note("%d events came after the last checkpoint of their chain: the database alone vouches for these", unsigned)
	}
	if v.Unlinked > 0 {
		note("%d rows are from before there were links and cannot be checked", v.Unlinked)
	}
	return v
}

func (s *streams) printVerified(v verified) error {
	chains := table{columns: []string{"REPLICA", "CHAIN", "ROWS", "PLACES", "CHECKPOINTS", "SIGNED UP TO", "AT"}}
	for _, c := range v.Chains {
		chains.add(c.Replica, c.Chain, strconv.FormatInt(c.Rows, 10), fmt.Sprintf("%d-%d", c.FirstSeq, c.LastSeq),
			strconv.FormatInt(c.Checkpoints, 10), strconv.FormatInt(c.SignedSeq, 10), instant(c.SignedAt))
	}
	if err := chains.flush(s.out); err != nil {
		return err
	}
	if len(v.Findings) > 0 {
		findings := table{columns: []string{"FOUND", "REPLICA", "CHAIN", "PLACE", "ROW", "EVENT", "WHAT"}}
		for _, f := range v.Findings {
			place := strconv.FormatInt(f.Seq, 10)
			if f.LastSeq > f.Seq {
				place += "-" + strconv.FormatInt(f.LastSeq, 10)
			}
			findings.add(string(f.Kind), f.Replica, f.Chain, place, strconv.FormatInt(f.Row, 10), f.EventID, f.Detail)
		}
		if err := findings.flush(s.out); err != nil {
			return err
		}
	}
	if v.More > 0 {
		if err := s.print("… and %d more\n", v.More); err != nil {
			return err
		}
	}
	for _, note := range v.Notes {
		if err := s.print("note: %s\n", note); err != nil {
			return err
		}
	}
	if len(v.Findings) > 0 {
		return nil
	}
	return s.print("%d rows were checked: nothing was changed\n", v.Rows)
}

// auditProgress tells on standard error how far a check has come: in place on a terminal, else by a line now and then.
type auditProgress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	start    time.Time
	last     time.Time
}

// progressEvery is between two lines of progress; on a terminal it is a fifth of it.
const progressEvery = 5 * time.Second

func newAuditProgress(s *streams, now func() time.Time) *auditProgress {
	at := now()
	return &auditProgress{w: s.err, terminal: isTerminal(s.err), now: now, start: at, last: at}
}

func (p *auditProgress) page(rows int64, part float64) {
	now, every := p.now(), progressEvery
	if p.terminal {
		every /= 5
	}
	if now.Sub(p.last) < every && (part < 1 || p.last.Equal(p.start)) {
		return
	}
	p.last = now
	took := now.Sub(p.start)
	left := time.Duration(0)
	if part > 0 {
		left = time.Duration(float64(took) * (1 - part) / part)
	}
	line := fmt.Sprintf("%d rows checked, %.0f %%, %.0f rows/s, %s left", rows, 100*part, float64(rows)/took.Seconds(), span(left))
	switch {
	case p.terminal && part < 1:
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	case p.terminal:
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K")
	default:
		_, _ = fmt.Fprintln(p.w, line)
	}
}
