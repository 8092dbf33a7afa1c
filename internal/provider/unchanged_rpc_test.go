package provider_test

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// both are two cores in the same world: one asks the provider's server, the other the framework's alone.
type both struct {
	ours, framework *core
	typ, key        tftypes.Type
}

func (w *world) both(t *testing.T) both {
	t.Helper()
	b := both{ours: w.configured(t, nil), framework: w.configuredAt(t, providerserver.NewProtocol6(newProvider(t))(), nil)}
	b.typ = b.ours.resource(sessionType)
	schemas, err := b.ours.server.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	b.ours.check(err)
	b.key = schemas.IdentitySchemas[sessionType].ValueType()
	return b
}

// identity is that of a session, nil for nil.
func (b both) identity(id any) *tfprotov6.ResourceIdentityData {
	if id == nil {
		return nil
	}
	return &tfprotov6.ResourceIdentityData{IdentityData: b.ours.encode(b.key, values{"id": id})}
}

// answer is one of the protocol, for comparison.
func (b both) answer(
	t *testing.T, state *tfprotov6.DynamicValue, identity *tfprotov6.ResourceIdentityData, private []byte, diags []*tfprotov6.Diagnostic,
	rest ...any,
) string {
	t.Helper()
	said := requestID.ReplaceAllString(list(diags), "")
	answer := fmt.Sprintf("identity %s\nprivate %q\n%s%v\n", b.ours.decode(b.key, identity.IdentityData), private, said, rest)
	answered := b.ours.decode(b.typ, state)
	if answered.IsNull() {
		return answer + "no state"
	}
	attributes := members(t, answered)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		answer += fmt.Sprintf("%s = %s\n", name, attributes[name])
	}
	return answer
}

// requestID is what no two answers of the service have in common.
var requestID = regexp.MustCompile(`\(request ID [^)]*\)`)

// plan plans a session of which no change is proposed, and reports whether the framework was spared. It fails the test where
// the two cores are answered differently.
func (b both) plan(t *testing.T, config, state tftypes.Value, private []byte, identity any) (spared bool) {
	t.Helper()
	var answers []string
	for _, c := range []*core{b.framework, b.ours} {
		prior := c.dynamic(b.typ, state)
		resp, err := c.server.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
			TypeName: sessionType, Config: c.dynamic(b.typ, config), PriorState: prior, ProposedNewState: c.dynamic(b.typ, state),
			PriorPrivate: private, PriorIdentity: b.identity(identity),
		})
		c.check(err)
		spared = resp.PlannedState == prior
		answers = append(answers, b.answer(t, resp.PlannedState, resp.PlannedIdentity, resp.PlannedPrivate, resp.Diagnostics,
			resp.RequiresReplace, resp.Deferred))
	}
	if diff := cmp.Diff(answers[0], answers[1]); diff != "" {
		t.Errorf("the framework (-) and the provider's server (+) answer\n%s", diff)
	}
	return spared
}

// read does so for a refresh.
func (b both) read(t *testing.T, state tftypes.Value, private []byte, identity any) (spared bool) {
	t.Helper()
	var answers []string
	for _, c := range []*core{b.framework, b.ours} {
		current := c.dynamic(b.typ, state)
		resp, err := c.server.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{
			TypeName: sessionType, CurrentState: current, Private: private, CurrentIdentity: b.identity(identity),
		})
		c.check(err)
		spared = resp.NewState == current
		answers = append(answers, b.answer(t, resp.NewState, resp.NewIdentity, resp.Private, resp.Diagnostics, resp.Deferred))
	}
	if diff := cmp.Diff(answers[0], answers[1]); diff != "" {
		t.Errorf("the framework (-) and the provider's server (+) answer\n%s", diff)
	}
	return spared
}

// other is another value than v.
func other(t *testing.T, v tftypes.Value) tftypes.Value {
	t.Helper()
	var number big.Float
	switch {
	case v.Type().Is(tftypes.String):
		return tftypes.NewValue(tftypes.String, "other")
	case v.Type().Is(tftypes.Number):
		if v.IsKnown() && !v.IsNull() {
			if err := v.As(&number); err != nil {
				t.Fatal(err)
			}
		}
		return tftypes.NewValue(tftypes.Number, number.Add(&number, big.NewFloat(1)))
	case v.Type().Is(tftypes.Bool):
		return tftypes.NewValue(tftypes.Bool, !v.Equal(tftypes.NewValue(tftypes.Bool, true)))
	}
	set, isSet := v.Type().(tftypes.Set)
	if isSet {
		return tftypes.NewValue(set, []tftypes.Value{tftypes.NewValue(set.ElementType, "other")})
	}
	object, isObject := v.Type().(tftypes.Object)
	if !isObject {
		t.Fatalf("what is another %s?", v)
	}
	all := map[string]tftypes.Value{}
	for name, typ := range object.AttributeTypes {
		all[name] = other(t, tftypes.NewValue(typ, nil))
	}
	return tftypes.NewValue(object, all)
}

// change is an object with another value of an attribute.
func change(t *testing.T, v tftypes.Value, name string, to tftypes.Value) tftypes.Value {
	t.Helper()
	all := members(t, v)
	all[name] = to
	return tftypes.NewValue(v.Type(), all)
}

// A plan without a proposed change is answered as the framework answers it, whatever the state and the configuration are.
func TestUnchangedSessionPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.both(t)
	made := b.ours.create(sessionType, values{"name": "test", "requirements": values{"gpu_count": 1}})
	defer tidy(t, b.ours, made)
	id := text(t, made.state, "id")
	null := tftypes.NewValue(b.typ, nil)
	config := value(t, b.typ, values{"name": "test", "requirements": values{"gpu_count": 1}}, "")
	for _, identity := range []any{nil, id} {
		if !b.plan(t, config, made.state, nil, identity) {
			t.Error("the framework plans a session that has not changed")
		}
	}
	if b.plan(t, config, made.state, []byte(`{"keys_pending":"e30="}`), nil) {
		t.Error("keys are to be installed, and nobody plans that")
	}
	b.plan(t, null, null, nil, nil) // nothing at all

	// Each attribute by itself, in the configuration and in state.
	schema := b.ours.schema.ResourceSchemas[sessionType].Block.Attributes
	for _, attribute := range schema {
		is := get(t, made.state, attribute.Name)
		for _, state := range []tftypes.Value{is, other(t, is), tftypes.NewValue(is.Type(), nil)} {
			changed := change(t, made.state, attribute.Name, state)
			b.plan(t, config, changed, nil, id)
			if attribute.Optional {
				b.plan(t, change(t, config, attribute.Name, state), changed, nil, id)
				b.plan(t, change(t, config, attribute.Name, tftypes.NewValue(is.Type(), tftypes.UnknownValue)), changed, nil, id)
			}
		}
	}
	spot := values{"gpu_count": 1, "allow_interruptible": true}
	for _, state := range []values{nil, {}, {"allow_interruptible": false}, spot} {
		for _, configured := range []values{nil, {}, {"allow_interruptible": false}, spot} {
			requirements := func(v values) tftypes.Value {
				if v == nil {
					return value(t, get(t, config, "requirements").Type(), nil, "")
				}
				return value(t, get(t, config, "requirements").Type(), v, "")
			}
			b.plan(t, change(t, config, "requirements", requirements(configured)),
				change(t, made.state, "requirements", requirements(state)), nil, id)
		}
	}

	// Many together.
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	spared := 0
	for range 200 {
		state, written := made.state, config
		for _, attribute := range schema {
			if random.IntN(8) == 0 {
				state = change(t, state, attribute.Name, other(t, get(t, state, attribute.Name)))
			}
			if attribute.Optional && random.IntN(2) == 0 {
				written = change(t, written, attribute.Name, get(t, state, attribute.Name))
			}
		}
		if b.plan(t, written, state, nil, id) {
			spared++
		}
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
	if spared == 0 {
		t.Error("the framework was always asked")
	}

	// What a run that was killed has left under the name.
	computer, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	rented := w.rentByHand(t, a6000, "terraform/test/"+token)
	left := map[string]any{
		"version": 2, "mark": rented.ConsumerID, "service": w.URL(), "computer": computer, "asked": time.Now(), "session_id": rented.ID,
	}
	name, err := journal.Open(w.journal, "another").TryLock("terraform/test at " + w.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := name.Write(token, left); err != nil {
		t.Fatal(err)
	}
	name.Unlock()
	if b.plan(t, config, made.state, nil, id) {
		t.Error("a leftover is not planned to be released")
	}
	if b.read(t, made.state, nil, id) {
		t.Error("a leftover is not reported")
	}
	w.releaseByHand(t)
}

// A refresh is answered as the framework answers it, whatever the service says.
func TestUnchangedSessionRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.both(t)
	made := b.ours.create(sessionType, values{"name": "test", "offer_id": a5000})
	id := text(t, made.state, "id")
	for _, identity := range []any{nil, id} {
		if !b.read(t, made.state, nil, identity) {
			t.Error("the framework reads a session that has not changed")
		}
	}
	for _, private := range [][]byte{[]byte(`{"imported":"dHJ1ZQ=="}`), []byte("{}")} {
		b.read(t, made.state, private, id)
	}
	b.read(t, made.state, nil, "another")
	for name, is := range members(t, made.state) {
		if name != "timeouts" && b.read(t, change(t, made.state, name, other(t, is)), nil, nil) && slices.Contains([]string{"status", "expires_at"}, name) {
			t.Errorf("a refresh leaves another %s", name)
		}
		b.read(t, change(t, made.state, name, tftypes.NewValue(is.Type(), nil)), nil, nil)
	}
	if _, err := w.client(t).Extend(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	if b.read(t, made.state, nil, nil) {
		t.Error("an extension was not seen")
	}
	asked := w.requests()
	b.ours.read(sessionType, made)
	if n := w.requests() - asked; n != 1 {
		t.Errorf("the service was asked %d times for a session that has changed", n)
	}
	if err := w.SetFaults(sandbox.Rule{Route: "GET /api/v1/sessions/{id}", Fault: sandbox.Status, Value: http.StatusForbidden}); err != nil {
		t.Fatal(err)
	}
	if b.read(t, made.state, nil, nil) {
		t.Error("a failure was not reported")
	}
	if err := w.SetFaults(); err != nil {
		t.Fatal(err)
	}
	w.releaseByHand(t)
	if b.read(t, made.state, nil, nil) {
		t.Error("an end was not seen")
	}
}

// requests is how many the service has been sent.
func (w *world) requests() (sum int) {
	for _, n := range w.Traffic().Requests {
		sum += n
	}
	return sum
}
