package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// String is the row for people.
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

// number writes three digits, and all that are before the point.
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

// median is the middle one.
func median[T ~int64 | ~float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted)%2 == 1 {
		return sorted[len(sorted)/2]
	}
	return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
}

// times are those that one of several ways took, in the order they were run.
type times struct{ wall, cpu []time.Duration }

// ratio is how many times the other's median wall time it took.
func (t times) ratio(other times) float64 {
	return float64(median(t.wall)) / float64(median(other.wall))
}

// cpuRatio is the same for the time that processors were busy.
func (t times) cpuRatio(other times) float64 {
	return float64(median(t.cpu)) / float64(median(other.cpu))
}

// interleaved runs each way so many times, in turns: what else the computer does strikes all of them.
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
