package emulator

import (
	"strings"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const maxAliases = 50

// checkNew checks the fields of a secret that is to be created.
func checkNew(name string, s *secretmanagerpb.Secret) error {
	switch {
	case s == nil:
		return status.Error(codes.InvalidArgument, "The field secret is required.")
	case regional(name) && s.GetReplication() != nil:
		return status.Error(codes.InvalidArgument, "A regional secret must not have a replication policy.")
	case !regional(name) && s.GetReplication().GetReplication() == nil:
		return status.Error(codes.InvalidArgument, "The field secret.replication is required: automatic or user_managed.")
	}
	if field := unsupported(s); field != "" {
		return status.Errorf(codes.Unimplemented, "The emulator does not support the field secret.%s; leave it out.", field)
	}
	return checkAliases(s.GetVersionAliases(), 0)
}

// unsupported names a field that is set and that the emulator would have to ignore, or is "".
func unsupported(s *secretmanagerpb.Secret) string {
	switch {
	case len(s.GetTopics()) > 0:
		return "topics"
	case s.GetExpiration() != nil:
		return "expiration"
	case s.GetRotation() != nil:
		return "rotation"
	case s.GetVersionDestroyTtl() != nil:
		return "version_destroy_ttl"
	case s.GetCustomerManagedEncryption() != nil:
		return "customer_managed_encryption"
	case len(s.GetTags()) > 0:
		return "tags"
	case s.GetSecretType() != secretmanagerpb.Secret_SECRET_TYPE_UNSPECIFIED:
		return "secret_type"
	default:
		return ""
	}
}

// checkAliases checks names, number and targets of aliases of a secret that has so many versions.
func checkAliases(aliases map[string]int64, versions int) error {
	if len(aliases) > maxAliases {
		return status.Errorf(codes.InvalidArgument, "A secret may have at most %d aliases, got %d.", maxAliases, len(aliases))
	}
	for alias, number := range aliases {
		if !aliasPattern.MatchString(alias) || strings.EqualFold(alias, latest) || strings.EqualFold(alias, "new") {
			return status.Errorf(codes.InvalidArgument,
				"The alias %q must start with a letter, have at most 63 letters, digits, - and _, and be neither latest nor NEW.", alias)
		}
		if number < 1 || number > int64(versions) {
			return status.Errorf(codes.InvalidArgument, "The alias %q points to version %d, which does not exist.", alias, number)
		}
	}
	return nil
}

// update brings the fields that paths name from one secret into another. It changes nothing when it fails.
func (s *Server) update(into *secret, from *secretmanagerpb.Secret, paths []string) error {
	if len(paths) == 0 {
		return status.Error(codes.InvalidArgument, "The field update_mask is required.")
	}
	for _, path := range paths {
		switch path {
		case "labels", "annotations":
		case "version_aliases":
			if err := checkAliases(from.GetVersionAliases(), len(into.versions)); err != nil {
				return err
			}
		case "topics", "expire_time", "ttl", "rotation", "version_destroy_ttl", "customer_managed_encryption":
			return status.Errorf(codes.Unimplemented, "The emulator cannot update the field %s.", path)
		default:
			return status.Errorf(codes.InvalidArgument, "The field %q of update_mask cannot be updated.", path)
		}
	}
	for _, path := range paths {
		switch path {
		case "labels":
			into.resource.Labels = from.GetLabels()
		case "annotations":
			into.resource.Annotations = from.GetAnnotations()
		case "version_aliases":
			into.resource.VersionAliases = from.GetVersionAliases()
		}
	}
	into.resource.Etag = s.nextEtag()
	return nil
}
