package connect

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	"github.com/apex-tradebill/omni-secrets/domain"
	"github.com/apex-tradebill/omni-secrets/gen/omni/secrets/v1/secretsv1connect"
	"github.com/apex-tradebill/omni-secrets/service"
)

const requestIDHeader = "X-Request-Id"

// scopeOf is what a token must allow for each procedure. What is not in it is refused.
var scopeOf = map[string]domain.Scope{
	secretsv1connect.SecretsServiceGetSecretProcedure:    domain.ScopeRead,
	secretsv1connect.SecretsServiceWatchSecretsProcedure: domain.ScopeRead,
	secretsv1connect.SecretsServiceRefreshCacheProcedure: domain.ScopeCacheRefresh,

	secretsv1connect.OpsServiceGetStatusProcedure:       domain.ScopeStatus,
	secretsv1connect.OpsServiceApplyBreakGlassProcedure: domain.ScopeBreakGlass,
	secretsv1connect.OpsServiceClearBreakGlassProcedure: domain.ScopeBreakGlass,
	secretsv1connect.OpsServiceListFollowUpsProcedure:   domain.ScopeStatus,
	secretsv1connect.OpsServiceCloseFollowUpProcedure:   domain.ScopeBreakGlass,
	secretsv1connect.OpsServicePreviewRotationProcedure: domain.ScopeRotate,
	secretsv1connect.OpsServiceBeginRotationProcedure:   domain.ScopeRotate,
	secretsv1connect.OpsServicePromoteRotationProcedure: domain.ScopeRotate,
	secretsv1connect.OpsServiceAbortRotationProcedure:   domain.ScopeRotate,
	secretsv1connect.OpsServiceRecordRotationProcedure:  domain.ScopeRotate,
	secretsv1connect.OpsServiceListAuditEventsProcedure: domain.ScopeAudit,
}

type callKey struct{}

// callOf is the call that admit let in.
func callOf(ctx context.Context) service.Call {
	call, _ := ctx.Value(callKey{}).(service.Call)
	return call
}

// admit lets in who has a valid token or client certificate.
func (a *api) admit(ctx context.Context, spec connect.Spec, peer connect.Peer, header http.Header) (context.Context, error) {
	w, _ := ctx.Value(patientKey{}).(*patientWriter)
	credentials := service.Credentials{Authorization: header.Get("Authorization"), Address: peer.Addr}
	if w != nil {
		credentials.Certificates = w.certificates
	}
	// served has put the id there, in the place of whatever the caller sent.
	call, err := a.Service.Authenticate(ctx, credentials, header.Get(requestIDHeader))
	if err == nil {
		if w != nil {
			w.call, w.unasked = call, spec.Procedure
		}
		err = readable(peer.Query)
	}
	if err != nil {
		if w != nil && domain.AsError(err).Code == domain.CodeUnauthenticated {
			w.Header().Set("WWW-Authenticate", `Bearer realm="omni-secrets"`) // a header with gRPC too, whose errors are trailers
		}
		return nil, a.failure(ctx, call, err)
	}
	return context.WithValue(ctx, callKey{}, call), nil
}

// authorize refuses a call whose token lacks the scope of the procedure.
func (a *api) authorize(ctx context.Context, procedure string, message any) error {
	if w, ok := ctx.Value(patientKey{}).(*patientWriter); ok {
		w.unasked = ""
	}
	var t domain.SecretType
	if about, ok := message.(interface{ GetSecretType() string }); ok {
		t = domain.SecretType(about.GetSecretType())
	}
	return a.Service.Authorize(ctx, callOf(ctx), scopeOf[procedure], t)
}

// readable refuses the query of a GET whose message is not the base64 that it says it is. To the library that would be a
// mistake of the server.
func readable(query url.Values) error {
	if query.Get("base64") != "1" {
		return nil
	}
	encoding, message := base64.URLEncoding, query.Get("message")
	if len(message)%4 != 0 {
		encoding = base64.RawURLEncoding
	}
	if _, err := encoding.DecodeString(message); err != nil {
		return &domain.Error{Code: domain.CodeInvalidRequest, Message: "message is not base64 of the URL alphabet, which base64=1 says it is"}
	}
	return nil
}
