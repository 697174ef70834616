package emulator

import (
	"encoding/base64"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxPage is the largest page, and the one that a page size of 0 gives.
const maxPage = 25000

// paginate cuts a page out of keys, after the key in token; next is empty after the last page. The token of a
// key that is gone by now is refused.
func paginate(keys []string, size int32, token string) (page []string, next string, err error) {
	if size < 0 {
		return nil, "", status.Errorf(codes.InvalidArgument, "The page_size %d must not be negative.", size)
	}
	if token != "" {
		last, err := base64.URLEncoding.DecodeString(token)
		at := slices.Index(keys, string(last))
		if err != nil || at < 0 {
			return nil, "", status.Error(codes.InvalidArgument, "The page_token is not one that this list gave; start again without it.")
		}
		keys = keys[at+1:]
	}
	limit := int(size)
	if limit == 0 || limit > maxPage {
		limit = maxPage
	}
	if len(keys) <= limit {
		return keys, "", nil
	}
	return keys[:limit], base64.URLEncoding.EncodeToString([]byte(keys[limit-1])), nil
}
