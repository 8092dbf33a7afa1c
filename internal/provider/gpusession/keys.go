package gpusession

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
)

// keysTimeout bounds the changes to a machine's authorized keys.
const keysTimeout = 2 * time.Minute

// keysScript changes the login user's authorized keys. Its arguments are the number of keys to remove, the base64 parts of
// those keys, and the keys to add. Public keys are no secret, and the shell doesn't evaluate arguments.
//
//go:embed keys.sh
var keysScript string

// checkPublicKey says what is wrong with s as a line of authorized_keys.
func checkPublicKey(s string) error {
	if strings.ContainsAny(s, "\r\n") {
		return errors.New("a public key is one line")
	}
	if fields := strings.Fields(s); len(fields) < 2 || !strings.HasPrefix(fields[1], "AAAA") || host.ParseHostKey(s) != nil {
		return errors.New("it is not a public key in authorized_keys format without options, such as ssh-ed25519 AAAA…")
	}
	return nil
}

// blob is the base64 part of a public key, which identifies the key whatever its comment.
func blob(key string) string {
	fields := strings.Fields(key)
	if len(fields) < 2 {
		return key
	}
	return fields[1]
}

// authorizedKeys are the user's public keys.
func (m model) authorizedKeys(ctx context.Context) ([]string, diagnostics) {
	var keys []string
	if m.AuthorizedKeys.IsNull() || m.AuthorizedKeys.IsUnknown() {
		return nil, nil
	}
	diags := m.AuthorizedKeys.ElementsAs(ctx, &keys, false)
	return keys, diags
}

// retains reports whether the one-time key may be kept in state.
func (m model) retains() bool {
	return m.RetainPrivateKey.ValueBool()
}

// installed is what is known of the user's keys on a machine.
type installed struct {
	keys []string
	// unsure reports that an earlier attempt to change the keys failed: each of keys may or may not be installed.
	unsure bool
}

// pending reads from private state which keys a failed attempt may have left. ok is false if there was none.
func pending(ctx context.Context, private privateState) (left installed, ok bool) {
	value, _ := private.GetKey(ctx, pendingKey)
	if value == nil {
		return installed{}, false
	}
	_ = json.Unmarshal(value, &left.keys) // an unreadable note names no key
	left.unsure = true
	return left, true
}

// note is what pending reads.
func (k installed) note() []byte {
	value, _ := json.Marshal(k.keys) //nolint:errchkjson // strings
	return value
}

// after is what may be installed after a failed attempt to install the wanted keys.
func (k installed) after(wanted []string) installed {
	return installed{keys: append(slices.Clone(wanted), missing(k.keys, wanted)...), unsure: true}
}

// settleKeys brings the machine's authorized keys in line with the configuration: it installs the user's keys and removes
// those that are no longer listed. If the one-time key is not to be retained, it removes that too, once a login with the
// provider's credentials has worked. It returns the one-time key to keep in state, null if it was removed. The error says
// what was not done; the machine can be used either way.
func (r *Resource) settleKeys(ctx context.Context, before installed, plan model, ssh sshattr.Keys) (types.String, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	wanted, diags := plan.authorizedKeys(ctx)
	if diags.HasError() {
		return ssh.PrivateKey, fmt.Errorf("authorized_keys is invalid: %v", diags)
	}
	add, remove := missing(wanted, before.keys), missing(before.keys, wanted)
	if before.unsure {
		add = wanted
	}
	if len(add)+len(remove) > 0 {
		if err := r.changeKeys(ctx, ssh.Config(r.data.SSH), add, remove); err != nil {
			return ssh.PrivateKey, fmt.Errorf("the keys in authorized_keys could not be installed; the next apply tries again: %w", err)
		}
	}
	if plan.retains() || ssh.PrivateKey.IsNull() {
		return ssh.PrivateKey, nil
	}
	if err := r.dropOneTimeKey(ctx, ssh); err != nil {
		return ssh.PrivateKey, fmt.Errorf("the one-time key stays on the machine and in state, because a login with another key could"+
			" not be verified. The next apply tries again: %w", err)
	}
	return types.StringNull(), nil
}

// keysProblem is the warning that the keys differ from the configuration.
func keysProblem(names rental.Names, err error) diag.Diagnostic {
	return diag.NewWarningDiagnostic(about("Machine is rented, its keys are not as"+
		" configured", names), diagnostic.Warning("", err).Detail())
}

// missing returns those keys of all that are not in known.
func missing(all, known []string) []string {
	var rest []string
	for _, key := range all {
		if !slices.ContainsFunc(known, func(other string) bool { return blob(other) == blob(key) }) {
			rest = append(rest, key)
		}
	}
	return rest
}

// dropOneTimeKey removes the one-time key from the machine, over a login with the provider's credentials.
func (r *Resource) dropOneTimeKey(ctx context.Context, ssh sshattr.Keys) error {
	credentials := r.data.SSH
	if credentials.PrivateKey == "" && credentials.AgentSocket == "" {
		return errors.New("retain_private_key is false, but the provider has no ssh credentials to log in with; set ssh.private_key or" +
			" ssh.agent in the provider")
	}
	public, err := host.PublicKeyOf(ssh.PrivateKey.ValueString())
	if err != nil {
		return err
	}
	own := ssh
	own.PrivateKey = types.StringNull()
	return r.changeKeys(ctx, own.Config(credentials), nil, []string{public})
}

// changeKeys logs in, removes authorized keys and adds others.
func (r *Resource) changeKeys(ctx context.Context, cfg host.Config, add, remove []string) error {
	machine, err := r.data.Machines.OpenUntil(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	args := []string{"sh", "-c", keysScript, "sh", fmt.Sprint(len(remove))}
	for _, key := range remove {
		args = append(args, blob(key))
	}
	result, err := machine.Run(ctx, host.Command{Args: append(args, add...)})
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("changing the machine's authorized keys failed with exit code %d: %s", result.ExitCode,
			strings.TrimSpace(result.Stderr))
	}
	return nil
}
