// Package output keeps the lines that a process under test writes, and lets tests wait for one.
package output

import (
	"bufio"
	"io"
	"math"
	"strings"
	"sync"
	"time"
)

// maxLine is the longest line, in bytes. What follows a longer one is not read.
const maxLine = 1 << 20

// Lines are those that were written so far. They are safe for concurrent use.
type Lines struct {
	mu    sync.Mutex
	grown *sync.Cond
	list  []string
	ended bool
}

// New returns no lines yet.
func New() *Lines {
	l := new(Lines)
	l.grown = sync.NewCond(&l.mu)
	return l
}

// Follow adds what r has, line by line, until it ends.
func (l *Lines) Follow(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		l.mu.Lock()
		l.list = append(l.list, scanner.Text())
		l.mu.Unlock()
		l.grown.Broadcast()
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.grown.Broadcast()
}

// Await waits for a line that want accepts, from the given one on: 0 is the first. It reports false when the output ended
// without one, or patience did.
func (l *Lines) Await(from int, patience time.Duration, want func(line string) bool) bool {
	over := false
	late := time.AfterFunc(patience, func() {
		l.mu.Lock()
		over = true
		l.mu.Unlock()
		l.grown.Broadcast()
	})
	defer late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for seen := from; ; {
		for ; seen < len(l.list); seen++ {
			if want(l.list[seen]) {
				return true
			}
		}
		if l.ended || over {
			return false
		}
		l.grown.Wait()
	}
}

// Count is how many lines there are.
func (l *Lines) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

// Tail is the last n lines, and fewer where there are.
func (l *Lines) Tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list[max(0, len(l.list)-n):], "\n")
}

// Text is all of the lines.
func (l *Lines) Text() string { return l.Tail(math.MaxInt) }
