package token

// FoundKey is a key that a set was read as.
type FoundKey struct {
	Key        any
	Algorithms []string
}

// ReadKeySet is what a key set is read as.
func ReadKeySet(text []byte) ([]FoundKey, error) {
	keys, _, err := parseKeySet(text)
	var found []FoundKey
	for _, k := range keys {
		found = append(found, FoundKey{k.key, k.algorithms})
	}
	return found, err
}
