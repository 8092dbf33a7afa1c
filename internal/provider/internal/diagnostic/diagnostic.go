// Package diagnostic turns errors into what Terraform shows: a summary of about five words that says what failed, and a
// detail that says what happened, what state things are in now and what to do next.
package diagnostic

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Error turns err into an error diagnostic. what is the summary for an err without one, such as "Could not read the
// session".
func Error(what string, err error) diag.Diagnostic {
	return diag.NewErrorDiagnostic(summary(what, err), detail(err))
}

// NotRead is Error for a data source that could not be read. It is no warning, because empty results could replace or
// release machines. The detail says how to destroy in spite of it.
func NotRead(what string, err error) diag.Diagnostic {
	return diag.NewErrorDiagnostic(summary(what, err), detail(err)+
		"\n\nIf this blocks a destroy, which reads data sources first, run the destroy with -refresh=false.")
}

// Warning turns err into a warning.
func Warning(what string, err error) diag.Diagnostic {
	return diag.NewWarningDiagnostic(summary(what, err), detail(err))
}

// Recover turns a panic into an error diagnostic, so that what a resource has saved so far reaches state. Every method that
// Terraform calls defers it.
func Recover(ctx context.Context, diags *diag.Diagnostics, what string) {
	problem := recover()
	if problem == nil {
		return
	}
	tflog.Error(ctx, "a panic was caught", map[string]any{"in": what, "stack": string(debug.Stack())})
	diags.AddError("The provider has a defect",
		fmt.Sprintf("A defect in the provider stopped it while %s: %v\n\nWhat it had saved until then is in state. Please report this"+
			" with the output of a run with TF_LOG=ERROR, which contains the stack trace.", what, problem))
}

func summary(what string, err error) string {
	if failed, ok := errors.AsType[*deploy.Error](err); ok {
		return failed.Summary
	}
	switch {
	case is[*rental.KeptError](err):
		return "Machine could not be released"
	case is[*rental.UnprovedError](err):
		return "Session is not known to this shopper"
	case is[*rental.NotReleasedError](err):
		return "Session was not released"
	case is[*rental.DoubtError](err):
		return "A machine may have been rented"
	case is[*rental.ConflictError](err):
		return "Name is already in use"
	case is[*rental.BudgetError](err):
		return "Budget would be exceeded"
	case is[*rental.AttemptsError](err):
		return "No machine could be rented"
	case is[*rental.NoOfferError](err):
		return "No offer fits"
	case is[*rental.NotReadyError](err):
		return "Shopper is not ready"
	case is[*rental.ExtendError](err):
		return "Reservation was not extended"
	case is[*rental.UnusableError](err):
		return "Machine could not be used"
	case shopper.IsUnreachable(err):
		return "Shopper can't be reached"
	case shopper.IsUnauthorized(err):
		return "Shopper refused the credentials"
	case host.KindOf(err) == host.HostKeyChanged:
		return "Host key has changed"
	case host.KindOf(err) == host.AuthFailed:
		return "Machine refused the login"
	case host.KindOf(err) == host.Unreachable:
		return "Machine can't be reached"
	case errors.Is(err, context.Canceled):
		return "Interrupted"
	case errors.Is(err, context.DeadlineExceeded):
		return what + " in time"
	}
	return what
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func detail(err error) string {
	var parts []string
	if failed, ok := errors.AsType[*deploy.Error](err); ok {
		parts = append(parts, failed.Description())
	} else {
		parts = append(parts, sentence(err.Error()))
	}
	if shopper.IsUnreachable(err) {
		parts = append(parts, "The provider's url or SHOPPER_URL sets the address.")
	}
	if hint := host.DetailOf(err); hint != "" && !strings.Contains(parts[0], hint) {
		parts = append(parts, hint)
	}
	return strings.Join(parts, "\n\n")
}

// sentence capitalizes an error's text and ends it with a period.
func sentence(text string) string {
	if text == "" {
		return text
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") && !strings.Contains(text, "\n") {
		text += "."
	}
	return text
}
