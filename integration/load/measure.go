package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sample is one measurement of one server. What could not be found out is missing from values.
type sample struct {
	server      string
	connections int
	round       int
	requests    uint64
	unsent      uint64
	values      map[string]float64 // by the keys of metrics
}

// measureAll starts the servers, measures them and stops them.
func (p *plan) measureAll(ctx context.Context) (_ *report, err error) {
	f, err := p.newField(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, name := range p.servers {
		s, err := f.start(ctx, name, name)
		if err != nil && name == postgresName && !p.named && ctx.Err() == nil {
			fmt.Fprintln(p.progress, "left out:", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	measurements := p.rounds * len(p.connections) * len(servers)
	fmt.Fprintf(p.progress, "%d measurements: at least %v\n", measurements,
		(time.Duration(measurements) * (p.duration + p.warmUp())).Round(time.Second))

	r := p.newReport(f)
	for round := range p.rounds {
		for _, connections := range p.connections {
			for _, s := range servers {
				one, err := p.measure(ctx, f, s, connections)
				if err != nil {
					return nil, fmt.Errorf("%s at %d connections: %w\nthe last that it wrote:\n%s", s.name, connections, err, s.out.last())
				}
				one.round = round
				r.samples = append(r.samples, one)
				fmt.Fprintf(p.progress, "round %d of %d, %d connections, %s: %.0f requests/s, p99 %.0f µs, CPU %.1f µs a request\n",
					round+1, p.rounds, connections, s.name, one.values[requestRate], one.values[p99], one.values[cpuTime])
			}
		}
		slices.Reverse(servers) // so that a drift of the machine hits all alike
	}
	return r, nil
}

func (p *plan) warmUp() time.Duration { return p.duration / 10 }

// measure warms the connections up, measures, and waits until the server has done the work that is left over.
func (p *plan) measure(ctx context.Context, f *field, s *server, connections int) (_ sample, err error) {
	clients, err := dialAll(ctx, connections, s.address, f.request(s), []byte(`"value":"`+secretValue+`"`))
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = clients.close() }() // a second time when ctx ended
	drive := clients.closedLoop
	if p.rate > 0 {
		drive = func(ctx context.Context, d time.Duration) (driven, error) {
			return clients.openLoop(ctx, d, p.rate, newSleeper)
		}
	}
	if _, err := drive(ctx, p.warmUp()); err != nil {
		return sample{}, err
	}
	if err := s.awaitQuiet(ctx); err != nil { // what is left of the warm-up is not measured
		return sample{}, err
	}

	before, err := s.counters(ctx)
	if err != nil {
		return sample{}, err
	}
	cpuBefore, hasCPU := s.cpuTime()
	done, err := drive(ctx, p.duration)
	if err != nil {
		return sample{}, err
	}
	cpuAfter, _ := s.cpuTime()
	resident, hasResident := s.residentBytes()
	after, err := s.counters(ctx)
	if err != nil {
		return sample{}, err
	}
	if err := s.awaitQuiet(ctx); err != nil {
		return sample{}, err
	}
	cpuQuiet, _ := s.cpuTime()

	requests := done.took.n - done.unsent
	if requests == 0 {
		return sample{}, errors.New("not one request was answered; lengthen -duration")
	}
	each := func(total float64) float64 { return total / float64(requests) }
	values := map[string]float64{
		requestRate:    float64(requests) / done.elapsed.Seconds(),
		p50:            microseconds(done.took.quantile(0.5)),
		p99:            microseconds(done.took.quantile(0.99)),
		p999:           microseconds(done.took.quantile(0.999)),
		allocations:    each(after[allocationsSeries] - before[allocationsSeries]),
		allocatedBytes: each(after[allocatedSeries] - before[allocatedSeries]),
	}
	if hasCPU {
		values[cpuTime] = each(microseconds(cpuAfter - cpuBefore))
		values[cpuTimeDrained] = each(microseconds(cpuQuiet - cpuBefore))
	}
	if hasResident {
		values[residentBytes] = resident
	}
	return sample{server: s.name, connections: connections, requests: requests, unsent: done.unsent, values: values}, nil
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
