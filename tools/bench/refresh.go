package main

import (
	"context"
	"fmt"
)

const (
	compared = 200 // sessions against null resources
	many     = 500 // sessions in one plan, whose requests are counted
	serving  = 5   // deployments, whose logins are counted
	rounds   = 5   // of the comparison
)

// refresh measures how long a plan over many sessions takes, and what it asks the service and the machines.
func refresh(ctx context.Context, w *world) ([]row, error) {
	s, err := w.startService(ctx, many, 0, quick)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, measure := range []func(context.Context, *world, *service) ([]row, error){againstNull, asked, trips} {
		more, err := measure(ctx, w, s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// againstNull compares a plan over sessions with one over as many resources of the null provider.
func againstNull(ctx context.Context, w *world, s *service) ([]row, error) {
	ours, err := w.applied(ctx, "ours", s.url, sessions(compared), 50)
	if err != nil {
		return nil, err
	}
	null, err := w.applied(ctx, "null", "", fmt.Sprintf("resource \"null_resource\" \"n\" {\n  count = %d\n}\n", compared), 50)
	if err != nil {
		return nil, err
	}
	took, err := interleaved(ctx, rounds, ours.plan, null.plan)
	if err != nil {
		return nil, err
	}
	if err := ours.destroy(ctx); err != nil {
		return nil, err
	}
	return []row{
		{
			what:  fmt.Sprintf("Plan over %d sessions, against %d null resources", compared, compared),
			value: took[0].ratio(took[1]), unit: "×", goal: 2,
			note: fmt.Sprintf("%s to %s", seconds(median(took[0].wall)), seconds(median(took[1].wall))),
		},
		{
			what: "The same in processor time, of the CLI and the provider", value: took[0].cpuRatio(took[1]), unit: "×",
			note: fmt.Sprintf("%s to %s", seconds(median(took[0].cpu)), seconds(median(took[1].cpu))),
		},
	}, nil
}

// asked counts the requests of a plan to the service.
func asked(ctx context.Context, w *world, s *service) ([]row, error) {
	all, err := w.applied(ctx, "many", s.url, sessions(many), 50)
	if err != nil {
		return nil, err
	}
	var took spent
	seen, err := s.during(ctx, func() error {
		took, err = all.plan(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := all.destroy(ctx); err != nil {
		return nil, err
	}
	return []row{{
		what: fmt.Sprintf("Requests to the service in a plan over %d sessions", many), value: float64(seen.Requests), goal: 10,
		note: seconds(took.wall),
	}}, nil
}

// trips counts the logins and round trips of a plan to the machines of deployments.
func trips(ctx context.Context, w *world, s *service) ([]row, error) {
	all, err := w.applied(ctx, "serving", s.url, deployments(serving), serving*2)
	if err != nil {
		return nil, err
	}
	seen, err := s.during(ctx, func() error {
		_, err := all.plan(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "Logins to a machine in a refresh of its deployment", value: float64(seen.Logins) / serving, goal: 1},
		{what: "Round trips after the login", value: float64(seen.Exchanges) / serving, goal: 5},
	}, nil
}
