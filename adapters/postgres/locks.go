package postgres

// Keys of advisory locks, which all programs of a database share. PostgreSQL takes two numbers as a key.
const (
	lockOmni      = 0x6f6d6e69 // "omni" in ASCII, 1869442665: with the numbers below
	lockOverrides = 0x6f6d6e6f // "omno" in ASCII, 1869442671: with the hash of a secret type

	lockLeader   = 1 // held by the leader for as long as it leads
	_            = 2 // held while partitions are made or dropped, in the functions of the schema
	lockRequests = 3 // held while refresh requests are numbered
)
