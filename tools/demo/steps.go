package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// question is what the model is asked.
const question = "What is the capital of France?"

func (d *demo) startSandbox(ctx context.Context) (err error) {
	if d.stage.sandbox, err = cli.StartSandbox(ctx, ""); err != nil {
		return err
	}
	fmt.Printf("   it listens at %s\n", d.stage.sandbox.URL)
	return nil
}

func (d *demo) prepare(ctx context.Context) error {
	if err := d.stage.prepare(ctx); err != nil {
		return err
	}
	fmt.Printf("   with %s at %s\n", d.stage.program, d.stage.program.Path)
	_, err := d.stage.quiet(ctx, "init")
	return err
}

func (d *demo) plan(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "plan", "-out=demo.plan")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "will be created") || strings.Contains(line, "will be read") || strings.HasPrefix(line, "Plan:") {
			fmt.Printf("   | %s\n", strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
		}
	}
	return nil
}

func (d *demo) apply(ctx context.Context) error {
	d.applied = true
	return d.stage.shown(ctx, "apply", "demo.plan")
}

func (d *demo) planAgain(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "plan", "-detailed-exitcode")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 {
		return fmt.Errorf("the second plan is not empty:\n%s", out)
	}
	if err == nil {
		fmt.Println("   | No changes.")
	}
	return err
}

func (d *demo) destroy(ctx context.Context) error {
	if _, err := d.stage.quiet(ctx, "plan", "-destroy", "-out=destroy.plan"); err != nil {
		return err
	}
	if err := d.stage.shown(ctx, "apply", "destroy.plan"); err != nil {
		return err
	}
	d.applied = false
	return nil
}

// ask does what any client does: it connects through SSH and uses the OpenAI API. tools/openai tests the official client.
func (d *demo) ask(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "output", "-json")
	if err != nil {
		return err
	}
	var outputs struct {
		Endpoint struct {
			Value struct {
				BaseURL string `json:"base_url"`
				Model   string
			}
		}
		APIKey struct{ Value string } `json:"api_key"`
		SSH    struct {
			Value struct {
				Host, User string
				Port       int
				PrivateKey string `json:"private_key"`
				HostKey    string `json:"host_key"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &outputs); err != nil {
		return fmt.Errorf("reading the outputs: %w", err)
	}
	ssh, endpoint := outputs.SSH.Value, outputs.Endpoint.Value
	machine, err := host.Dial(ctx, host.Config{
		Host: ssh.Host, Port: ssh.Port, User: ssh.User, PrivateKeys: []string{ssh.PrivateKey}, HostKey: ssh.HostKey,
	})
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	body, err := json.Marshal(map[string]any{
		"model": endpoint.Model, "max_tokens": 60, "messages": []any{map[string]string{"role": "user", "content": question}},
	})
	if err != nil {
		return err
	}
	url := strings.TrimSuffix(endpoint.BaseURL, "/") + "/chat/completions"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+outputs.APIKey.Value)
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := send(&http.Client{Transport: machine.HTTPTransport()}, request, &answer); err != nil {
		return fmt.Errorf("asking the model: %w", err)
	}
	if len(answer.Choices) == 0 || strings.TrimSpace(answer.Choices[0].Message.Content) == "" {
		return errors.New("the model's answer is empty")
	}
	fmt.Printf("   you:   %s\n   model: %s\n", question, strings.TrimSpace(answer.Choices[0].Message.Content))
	return nil
}

// send sends a request and decodes the answer.
func send(client *http.Client, request *http.Request, answer any) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// audit asks the sandbox, which keeps a ledger of all rentals, what is still billing.
func (d *demo) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.stage.sandbox.URL+"/sandbox/ledger", http.NoBody)
	if err != nil {
		return err
	}
	var ledger struct{ Billing, Rentals []json.RawMessage }
	if err := send(http.DefaultClient, request, &ledger); err != nil {
		return fmt.Errorf("reading the sandbox's ledger: %w", err)
	}
	if len(ledger.Billing) > 0 {
		return fmt.Errorf("%d machines are still billing: %s", len(ledger.Billing), ledger.Billing)
	}
	fmt.Printf("   %d rented in all, 0 billing\n", len(ledger.Rentals))
	return nil
}
