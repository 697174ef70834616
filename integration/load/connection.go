package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// checkEvery is how many answers of a connection pass between two whose bodies are compared.
const checkEvery = 64

// connection sends one prepared request over and over. It speaks as much HTTP/1.1 as that takes: the client shares
// the processors with the server that is measured, and net/http's would cost more than the server does.
type connection struct {
	net.Conn
	r       *bufio.Reader
	request []byte
	want    []byte // is part of each body
	sent    int
	took    histogram
	unsent  uint64
}

func dial(ctx context.Context, address string, request, want []byte) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn, r: bufio.NewReaderSize(conn, 4<<10), request: request, want: want}, nil
}

// exchange sends the request and reads the answer. An answer other than 200 with the wanted body is an error.
func (c *connection) exchange() error {
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return unexpectedEOF(err)
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
	status := ""
	if !ok {
		status = string(bytes.TrimSpace(line))
	}
	length, err := c.header()
	if err != nil {
		return err
	}
	c.sent++
	if ok && c.sent%checkEvery != 1 {
		_, err := c.r.Discard(length)
		return unexpectedEOF(err)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return unexpectedEOF(err)
	}
	if !ok {
		return fmt.Errorf("it answered %s: %s", status, body) // of an error, which holds no secret
	}
	if !bytes.Contains(body, c.want) {
		return fmt.Errorf("its answer of %d bytes lacks the secret's value", length)
	}
	return nil
}

// header reads to the end of the header, for the length of the body.
func (c *connection) header() (length int, err error) {
	length = -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, unexpectedEOF(err)
		}
		if line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r")); len(line) == 0 {
			break
		}
		const name = "Content-Length:"
		if len(line) > len(name) && (line[0]|0x20) == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
			if err != nil || length < 0 {
				return 0, fmt.Errorf("its answer has the header %q", line)
			}
		}
	}
	if length < 0 {
		return 0, errors.New("its answer has no Content-Length, which is all that this client understands")
	}
	return length, nil
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it closed the connection")
	}
	return err
}

// pool is the connections of one measurement.
type pool []*connection

func dialAll(ctx context.Context, n int, address string, request, want []byte) (pool, error) {
	var p pool
	for range n {
		c, err := dial(ctx, address, request, want)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p = append(p, c)
	}
	return p, nil
}

func (p pool) close() error {
	var errs []error
	for _, c := range p {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// prepare forgets what was measured and bounds what comes.
func (p pool) prepare(until time.Time) error {
	for _, c := range p {
		c.took, c.unsent = histogram{}, 0
		if err := c.SetDeadline(until); err != nil {
			return err
		}
	}
	return nil
}
