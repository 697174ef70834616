package service_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/ports"
	"github.com/apex-tradebill/omni-secrets/service"
)

// chainsThatGoBack says that each chain has fewer events than it has.
type chainsThatGoBack struct {
	ports.AuditChains
	by atomic.Int64
}

// ChainHeads implements ports.AuditChains.
func (c *chainsThatGoBack) ChainHeads(ctx context.Context) ([]domain.ChainHead, error) {
	heads, err := c.AuditChains.ChainHeads(ctx)
	for i := range heads {
		heads[i].Seq -= c.by.Load()
	}
	return heads, err
}

func withCheckpoints(t *testing.T) func(*service.Config) {
	t.Helper()
	key, err := domain.NewCheckpointKey(make([]byte, domain.CheckpointSeedBytes))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *service.Config) { c.CheckpointKey, c.CheckpointEvery = key, 5*time.Minute }
}

// verify checks the trail with the key of the fixture.
func (f *fixture) verify(copies ...domain.Checkpoint) (findings []domain.TamperFinding, chains []domain.ChainSummary) {
	f.t.Helper()
	check, err := service.VerifyAudit(f.t.Context(), f.store, service.AuditProof{
		Keys: []domain.CheckpointPublicKey{f.config.CheckpointKey.Public()}, Copies: copies,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	findings, _ = check.Findings()
	return findings, check.Chains()
}

func TestCheckpointsAreSignedWhileChainsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, withCheckpoints(t))
		stop := f.run()
		f.at(time.Second)
		if got := f.logs.named(domain.EventAuditCheckpoint); len(got) != 1 { // of what the start itself recorded
			t.Fatalf("at the start: %v", got)
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
		f.at(5*time.Minute + time.Second)
		signed := f.wantLogged(domain.EventAuditCheckpoint, 2)
		f.at(20 * time.Minute) // nothing happens: nothing is to be signed, and the time of the last look moves on
		f.wantLogged(domain.EventAuditCheckpoint, 2)
		if age := time.Since(f.LastCheckpoint()); age > 5*time.Minute {
			t.Errorf("the last checkpoint is %v old", age)
		}

		for _, attribute := range []string{"chain", "replica", "seq", "hash", "signedAt", "keyId", "signature"} {
			if signed[1][attribute] == nil {
				t.Errorf("the log line has no %s: %v", attribute, signed[1])
			}
		}
		f.wantServed(apiKey, "key-1", "gsm", false)
		stop()
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		findings, chains := f.verify()
		if len(findings) > 0 || len(chains) != 1 || chains[0].SignedSeq != chains[0].Seq || chains[0].Checkpoints != 3 {
			t.Errorf("found %+v in %+v, want nothing in a chain whose last event is signed", findings, chains)
		}
	})
}

func TestWithoutAKeyThereAreNoCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		stop := f.run()
		f.at(time.Hour)
		stop()
		if err := f.Checkpoint(t.Context()); err != nil {
			t.Error(err)
		}
		f.wantLogged(domain.EventAuditCheckpoint, 0)
	})
}

// A copy of a checkpoint that the database does not have any more is as good as one that it has; one that nobody signed
// is told.
func TestVerifyAuditWithCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, withCheckpoints(t))
		stop := f.run()
		f.at(time.Second)
		stop()
		heads, err := f.store.ChainHeads(t.Context())
		if err != nil || len(heads) != 1 {
			t.Fatalf("heads: %v, %v", heads, err)
		}
		grown := heads[0]
		grown.Seq += 5
		seen := f.config.CheckpointKey.Sign(grown, time.Now())
		if findings, _ := f.verify(seen); len(findings) != 1 || findings[0].Kind != domain.TamperCutOff || findings[0].LastSeq != grown.Seq {
			t.Errorf("found %+v, want that the chain was cut off", findings)
		}
		seen.Seq++
		if findings, _ := f.verify(seen); len(findings) != 1 || findings[0].Kind != domain.TamperCheckpoint {
			t.Errorf("found %+v, want that the signature does not hold", findings)
		}
	})
}

// A head that went back was changed in the database: to sign it would make that good.
func TestAHeadThatGoesBackIsNotSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := new(chainsThatGoBack)
		f := newFixture(t, withCheckpoints(t), func(c *service.Config) { back.AuditChains, c.Chains = c.Chains, back })
		stop := f.run()
		f.at(time.Second)
		f.wantLogged(domain.EventAuditCheckpoint, 1)
		back.by.Store(1)
		f.at(6 * time.Minute)
		stop()
		f.wantLogged(domain.EventAuditCheckpoint, 1)
		if len(f.logs.named(domain.AlertAuditChain)) == 0 {
			t.Errorf("%s was not logged", domain.AlertAuditChain)
		}
	})
}

// A checkpoint that was put in the database ahead of its chain does not end the signing without a word, nor does a head
// that was set back while no process ran.
func TestACheckpointAheadOfItsChainIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, withCheckpoints(t))
		stop := f.run()
		f.at(time.Second)
		stop()
		heads, err := f.store.ChainHeads(t.Context())
		if err != nil || len(heads) != 1 {
			t.Fatalf("heads: %v, %v", heads, err)
		}
		ahead := f.config.CheckpointKey.Sign(heads[0], time.Now())
		ahead.Seq += 1_000_000 // the signature does not hold for it
		if err := f.store.AddCheckpoints(t.Context(), []domain.Checkpoint{ahead}); err != nil {
			t.Fatal(err)
		}
		if err := f.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.wantLogged(domain.AlertAuditChain, 1)
	})
}

// silentChains do not answer until they are released.
type silentChains struct {
	ports.AuditChains
	asked, release chan struct{}
}

// ChainHeads implements ports.AuditChains.
func (c *silentChains) ChainHeads(ctx context.Context) ([]domain.ChainHead, error) {
	c.asked <- struct{}{}
	<-c.release
	return c.AuditChains.ChainHeads(ctx)
}

// Metrics are asked for when the last checkpoint was: they must not wait for a database that is silent.
func TestLastCheckpointDoesNotWaitForTheDatabase(t *testing.T) {
	chains := &silentChains{asked: make(chan struct{}), release: make(chan struct{})}
	f := newFixture(t, withCheckpoints(t), func(c *service.Config) {
		chains.AuditChains = c.Chains
		c.Chains = chains
	})
	signed := make(chan error)
	go func() { signed <- f.Checkpoint(t.Context()) }()
	<-chains.asked
	told := make(chan time.Time, 1)
	go func() { told <- f.LastCheckpoint() }()
	select {
	case at := <-told:
		if !at.IsZero() {
			t.Errorf("the last checkpoint is of %v, want none yet", at)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the database")
	}
	close(chains.release)
	if err := <-signed; err != nil {
		t.Fatal(err)
	}
	if f.LastCheckpoint().IsZero() {
		t.Error("there is no last checkpoint after one")
	}
}
