package localfile

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// stamp is what tells one state of a file from another, without its content.
type stamp struct {
	changed int64 // ctime, in nanoseconds since 1970
	inode   uint64
	size    int64
}

// version is the name that the package's comment describes. The size does not go into it: where the ctime and
// the inode are the same, the file is.
func (s stamp) version() string {
	return time.Unix(0, s.changed).UTC().Format("20060102T150405.000000000Z") + "-" + strconv.FormatUint(s.inode, 16)
}

func stat(f *os.File) (stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return stamp{}, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	changed, inode := identity(info)
	return stamp{changed: changed, inode: inode, size: info.Size()}, nil
}
