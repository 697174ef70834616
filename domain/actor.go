package domain

import "strings"

// ActorType says what kind of caller acted.
type ActorType string

const (
	ActorService    ActorType = "service"
	ActorOperator   ActorType = "operator"
	ActorAutomation ActorType = "automation" // Omni Secrets itself
)

// Actor is who did something, as the audit trail names them.
type Actor struct {
	Type ActorType
	ID   string // the token's subject
}

// Anonymous is the actor of a request without a valid token.
var Anonymous = Actor{Type: ActorService, ID: "anonymous"}

// Automation is Omni Secrets acting by itself.
var Automation = Actor{Type: ActorAutomation, ID: "omni-secrets"}

// ReservedSubject reports whether a caller must not have this name, in any spelling: in the audit trail it would pass for
// a request without a valid token, or for Omni Secrets itself.
func ReservedSubject(subject string) bool {
	subject = strings.TrimSpace(subject)
	return strings.EqualFold(subject, Anonymous.ID) || strings.EqualFold(subject, Automation.ID)
}

// Scope is one thing that a token allows. Scopes are a set: combine them with |.
type Scope uint16

const (
	ScopeCacheRefresh Scope = 1 << iota
	ScopeRead
	ScopeStatus
	ScopeBreakGlass
	ScopeRotate
	ScopeAudit
	scopeEnd
)

// ScopeOps is every scope of the operators' endpoints: none of them reads a value.
const ScopeOps = ScopeStatus | ScopeBreakGlass | ScopeRotate | ScopeAudit

var scopeNames = map[Scope]string{
	ScopeCacheRefresh: "svc.omni.secrets.cache",
	ScopeRead:         "svc.omni.secrets.read",
	ScopeStatus:       "ops.omni.secrets.read",
	ScopeBreakGlass:   "ops.omni.secrets.breakglass",
	ScopeRotate:       "ops.omni.secrets.rotate",
	ScopeAudit:        "ops.omni.secrets.audit",
}

var scopesByName = func() map[string]Scope {
	m := map[string]Scope{"omni:manage": ScopeOps, "omni:ops": ScopeOps}
	for s, name := range scopeNames {
		m[name] = s
	}
	return m
}()

// ParseScope is what a scope of a token allows; an unknown one allows nothing.
func ParseScope(name string) Scope { return scopesByName[name] }

// RoleScope is what a role of a token allows.
func RoleScope(role string) Scope {
	if role == "ops" || role == "omni-ops" {
		return ScopeOps
	}
	return 0
}

// String is the name of a single scope as tokens carry it.
func (s Scope) String() string { return scopeNames[s] }

// Names lists the scopes of the set in a fixed order.
func (s Scope) Names() []string {
	var names []string
	for one := Scope(1); one < scopeEnd; one <<= 1 {
		if s&one != 0 {
			names = append(names, scopeNames[one])
		}
	}
	return names
}

// Principal is a caller whose token or certificate was verified.
type Principal struct {
	Subject string
	Scopes  Scope
}

// Allows reports whether the principal has the scope. Nobody has none: what says no scope is closed, not open.
func (p Principal) Allows(s Scope) bool { return s != 0 && p.Scopes&s == s }

// Actor is how the audit trail names the principal: an operator when its token opens any operators' endpoint.
func (p Principal) Actor() Actor {
	switch {
	case p.Subject == "":
		return Anonymous
	case p.Scopes&ScopeOps != 0:
		return Actor{Type: ActorOperator, ID: p.Subject}
	default:
		return Actor{Type: ActorService, ID: p.Subject}
	}
}
