package sessionview

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	// page is how many of the newest sessions are asked for at first: most services have no more.
	page = 1000
	// longestLife is more than any operator lets a session live; the shopper's default is 12 hours.
	longestLife = 7 * 24 * time.Hour
)

// alive are the statuses of sessions that may have a machine, in the order of a life:
// asked for one after the other, a session that moves on meanwhile is not missed.
var alive = []shopper.Status{shopper.Pending, shopper.Provisioning, shopper.Running, shopper.Stopping}

// Live lists everybody's sessions that may have a machine, newest first. The shopper
// keeps every session for good, so the ended ones are not asked for.
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
		all = append(byStatus, all...) // where a status is a word of a later shopper's, the newest sessions have it
	}
	return slices.DeleteFunc(newestFirst(all), func(s shopper.Session) bool { return !Alive(s) }), nil
}

// ByStatus lists everybody's sessions that have one of the statuses, newest first. Of
// each status it lists the newest shopper.MaxSessions; complete reports whether those
// are all.
func ByStatus(ctx context.Context, client *shopper.Client, statuses ...shopper.Status) (all []shopper.Session, complete bool, err error) {
	complete = true
	for _, status := range statuses {
		list, err := client.Sessions(ctx, shopper.SessionFilter{Status: status, Limit: shopper.MaxSessions})
		if err != nil {
			return nil, false, err
		}
		complete = complete && len(list) < shopper.MaxSessions
		all = append(list, all...) // what was read later counts
	}
	return newestFirst(all), complete, nil
}

// Since lists everybody's sessions that had time reserved after a moment, ended ones
// included, newest first. It is an error when there are too many to see them all.
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

// newestFirst sorts sessions. Of a session that is there twice the first is kept.
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
