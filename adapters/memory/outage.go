package memory

import "context"

// outage is an error that stands in the way of every call while it is set. It is guarded by its owner's mutex.
type outage struct{ err error }

func (o outage) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.err
}
