package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// String is the row as it is printed.
func (r row) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.what, r.amount())
	if r.goal > 0 {
		fmt.Fprintf(&b, " (goal: at most %s)", number(r.goal, r.unit))
	}
	if r.note != "" {
		b.WriteString(", " + r.note)
	}
	return b.String()
}

func (r row) amount() string { return number(r.value, r.unit) }

// number has three digits, or all that are before the point.
func number(value float64, unit string) string {
	digits := 2
	switch {
	case value == float64(int64(value)) || value >= 100:
		digits = 0
	case value >= 10:
		digits = 1
	}
	text := fmt.Sprintf("%.*f", digits, value)
	if unit == "" || unit == "×" {
		return text + unit
	}
	return text + " " + unit
}

// median is the middle value, or the mean of the middle two.
func median[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted)%2 == 1 {
		return sorted[len(sorted)/2]
	}
	return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
}

// times are how long the rounds of one way took.
type times struct{ wall, cpu []time.Duration }

// ratio is the median wall time divided by the other's.
func (t times) ratio(other times) float64 {
	return float64(median(t.wall)) / float64(median(other.wall))
}

// cpuRatio is the same of processor time.
func (t times) cpuRatio(other times) float64 {
	return float64(median(t.cpu)) / float64(median(other.cpu))
}

// interleaved runs each way this many times, in turns, so that other load on the computer affects all of them.
func interleaved(ctx context.Context, rounds int, ways ...func(context.Context) (spent, error)) ([]times, error) {
	all := make([]times, len(ways))
	for range rounds {
		for i, way := range ways {
			took, err := way(ctx)
			if err != nil {
				return nil, err
			}
			all[i].wall, all[i].cpu = append(all[i].wall, took.wall), append(all[i].cpu, took.cpu)
		}
	}
	return all, nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
