package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// wipeEnvironment overwrites the values of variables in the block that the kernel gave this process at its start, which
// is what /proc/PID/environ shows. The copies that the Go runtime made are not in it.
func wipeEnvironment(names []string) error {
	start, end, err := environmentBlock()
	if err != nil {
		return err
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	block := make([]byte, end-start)
	defer clear(block)
	if _, err := memory.ReadAt(block, start); err != nil {
		return fmt.Errorf("read the environment in /proc/self/mem: %w", err)
	}
	for at := 0; at < len(block); {
		size := bytes.IndexByte(block[at:], 0)
		if size < 0 {
			size = len(block) - at
		}
		variable := block[at : at+size]
		for _, name := range names {
			if value, ok := bytes.CutPrefix(variable, []byte(name+"=")); ok && len(value) > 0 {
				if _, err := memory.WriteAt(make([]byte, len(value)), start+int64(at+size-len(value))); err != nil {
					return fmt.Errorf("overwrite %s in /proc/self/mem: %w", name, err)
				}
			}
		}
		at += size + 1
	}
	return nil
}

// environmentBlock is where the block begins and ends in memory: fields 50 and 51 of proc_pid_stat(5).
func environmentBlock() (start, end int64, err error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name of the program, which is field 2, may have spaces
	fields := strings.Fields(rest)
	const envStart, envEnd, firstField = 50, 51, 3
	if len(fields) > envEnd-firstField {
		start, _ = strconv.ParseInt(fields[envStart-firstField], 10, 64)
		end, _ = strconv.ParseInt(fields[envEnd-firstField], 10, 64)
	}
	if start <= 0 || end < start || end-start > 16<<20 {
		return 0, 0, errors.New("/proc/self/stat does not say where the environment is")
	}
	return start, end, nil
}

// refuseDumps has no core dump written of this process, and its memory, environment and open files be root's in /proc.
func refuseDumps() error {
	err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	const prSetDumpable = 4 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		err = errors.Join(err, fmt.Errorf("prctl: %w", errno))
	}
	return err
}
