package token

// Remembered is how many tokens need no new check.
func (v *Verifier) Remembered() int { return len(v.checked.young) + len(v.checked.old) }

// Forget lets every token be checked again.
func (v *Verifier) Forget() { v.checked.young, v.checked.old = nil, nil }
