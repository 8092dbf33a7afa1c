package sessionview

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	// page is how many of the newest sessions the first request asks for. Most shoppers have no more.
	page = 1000
	// longestLife is longer than any operator lets a session live. The shopper's default is 12 hours.
	longestLife = 7 * 24 * time.Hour
)

// alive are the statuses of sessions that may have a machine, in the order in which a session has them. Requested in that
// order, a session that changes its status meanwhile is not missed.
var alive = []shopper.Status{shopper.Pending, shopper.Provisioning, shopper.Running, shopper.Stopping}

// Live lists all consumers' sessions that may have a machine, newest first. It doesn't request ended ones, because the
// shopper keeps those forever.
func Live(ctx context.Context, client *shopper.Client) ([]shopper.Session, error) {
	all, err := client.Sessions(ctx, shopper.SessionFilter{Limit: page})
	if err != nil {
		return nil, err
	}
	if len(all) == page { // there may be more
		byStatus, _, err := ByStatus(ctx, client, alive...)
		if err != nil {
			return nil, err
		}
		all = append(byStatus, all...) // a newer shopper may have more statuses: the newest sessions include them
	}
	return slices.DeleteFunc(newestFirst(all), func(s shopper.Session) bool { return !Alive(s) }), nil
}

// ByStatus lists all consumers' sessions with the given statuses, newest first, at most shopper.MaxSessions for each status.
// complete reports whether those are all.
func ByStatus(ctx context.Context, client *shopper.Client, statuses ...shopper.Status) (all []shopper.Session, complete bool, err error) {
	complete = true
	for _, status := range statuses {
		list, err := client.Sessions(ctx, shopper.SessionFilter{Status: status, Limit: shopper.MaxSessions})
		if err != nil {
			return nil, false, err
		}
		complete = complete && len(list) < shopper.MaxSessions
		all = append(list, all...) // the later read counts
	}
	return newestFirst(all), complete, nil
}

// Since lists all consumers' sessions that had reserved time after start, ended ones included, newest first. It fails if the
// shopper has more than it lists.
func Since(ctx context.Context, client *shopper.Client, start time.Time) ([]shopper.Session, error) {
	var all []shopper.Session
	for _, limit := range []int{page, shopper.MaxSessions} {
		var err error
		if all, err = client.Sessions(ctx, shopper.SessionFilter{Limit: limit}); err != nil {
			return nil, err
		}
		if len(all) < limit || all[limit-1].CreatedAt.Before(start.Add(-longestLife)) {
			return slices.DeleteFunc(all, func(s shopper.Session) bool { return !Alive(s) && s.ExpiresAt.Before(start) }), nil
		}
	}
	return nil, fmt.Errorf("the shopper has more than %d sessions since %s, and lists only that many", shopper.MaxSessions,
		all[len(all)-1].CreatedAt.UTC().Format(time.RFC3339))
}

// newestFirst sorts sessions, and keeps the first of those with the same ID.
func newestFirst(all []shopper.Session) []shopper.Session {
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(s shopper.Session) bool {
		again := seen[s.ID]
		seen[s.ID] = true
		return again
	})
	slices.SortStableFunc(all, func(a, b shopper.Session) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all
}
