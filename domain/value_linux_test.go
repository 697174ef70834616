package domain_test

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/apex-tradebill/omni-secrets/domain"
)

// memory reads this process's memory, also what no pointer leads to any more.
func memory(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// at reads what stands at an address into b.
func at(t *testing.T, memory io.ReaderAt, address uintptr, b []byte) []byte {
	t.Helper()
	if _, err := memory.ReadAt(b, int64(address)); err != nil {
		t.Fatal(err)
	}
	return b
}

// valueOf makes a value that only the caller refers to, and says where it stands in memory.
//
//go:noinline
func valueOf(text string) (domain.Value, uintptr) {
	v := domain.NewValue([]byte(text))
	return v, uintptr(unsafe.Pointer(unsafe.SliceData(v.Reveal())))
}

//go:noinline
func addressOfDropped(text string) uintptr {
	_, address := valueOf(text)
	return address
}

// collect makes the runtime run the finalizers of what is not referred to, and waits for one of those that came after.
func collect() {
	done := make(chan struct{})
	func() {
		marker := make([]byte, 64)
		runtime.SetFinalizer(&marker[0], func(*byte) { close(done) })
	}()
	for {
		runtime.GC()
		select {
		case <-done:
			return
		default:
			runtime.Gosched()
		}
	}
}

func TestDroppedValueIsZeroInMemory(t *testing.T) {
	mem := memory(t)
	for name, text := range map[string]string{
		"a short one": "hunter2", "of 16 bytes": strings.Repeat("s", 16), "a key": strings.Repeat("k", 32),
		"the largest": strings.Repeat("L", domain.MaxValueBytes),
	} {
		t.Run(name, func(t *testing.T) {
			room := make([]byte, len(text)) // made before, so that it is not what the value leaves behind
			address := addressOfDropped(text)
			for try := 0; bytes.Contains(at(t, mem, address, room), []byte(text)); try++ {
				if try == 100 { // once does; a word on a stack may happen to lead there
					t.Fatal("the value is still in memory")
				}
				collect()
			}
		})
	}
}

func TestWhatAReaderHoldsStaysAsItIs(t *testing.T) {
	const text = "what a reader holds"
	for name, hold := range map[string]func() []byte{
		"all of it": func() []byte { v, _ := valueOf(text); return v.Reveal() },
		"the end":   func() []byte { v, _ := valueOf(text); return v.Reveal()[5:] },
	} {
		t.Run(name, func(t *testing.T) {
			held := hold() // the Value itself is gone
			for range 5 {
				collect()
			}
			if string(held) != text[len(text)-len(held):] {
				t.Errorf("a reader holds %q", held)
			}
			runtime.KeepAlive(held)
		})
	}
}
