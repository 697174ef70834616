module github.com/apex-tradebill/omni-secrets

go 1.26.0
