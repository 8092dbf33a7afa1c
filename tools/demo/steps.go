package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

func (d *demo) startSandbox(ctx context.Context) error {
	url, err := d.stage.startSandbox(ctx, filepath.Join(d.bin, "shopper-sandbox"))
	if err != nil {
		return err
	}
	fmt.Printf("   it listens at %s\n", url)
	return nil
}

func (d *demo) prepare(ctx context.Context) error {
	program, err := d.program(ctx)
	if err != nil {
		return err
	}
	if err := d.stage.prepare(program, d.config, filepath.Join(d.bin, "terraform-provider-shopper")); err != nil {
		return err
	}
	fmt.Printf("   with %s at %s\n", program, program.Path)
	_, err = d.stage.quiet(ctx, "init", "-input=false", "-no-color")
	return err
}

// program is the Terraform or OpenTofu on PATH, else the one that was built.
func (d *demo) program(ctx context.Context) (cli.CLI, error) {
	found, err := cli.Find(ctx)
	if err != nil {
		return cli.CLI{}, err
	}
	if len(found) > 0 {
		return found[0], nil
	}
	return cli.Identify(ctx, d.tofu)
}

func (d *demo) plan(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "plan", "-input=false", "-no-color", "-out=demo.plan")
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
	d.stage.applied = true
	return d.stage.shown(ctx, "apply", "-input=false", "-no-color", "demo.plan")
}

func (d *demo) planAgain(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "plan", "-input=false", "-no-color", "-detailed-exitcode")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 {
		return fmt.Errorf("the second plan is not empty:\n%s", out)
	}
	if err == nil {
		fmt.Println("   | No changes.")
	}
	return err
}

func (d *demo) destroy(ctx context.Context) error {
	if _, err := d.stage.quiet(ctx, "plan", "-destroy", "-input=false", "-no-color", "-out=destroy.plan"); err != nil {
		return err
	}
	if err := d.stage.shown(ctx, "apply", "-input=false", "-no-color", "destroy.plan"); err != nil {
		return err
	}
	d.stage.applied = false
	return nil
}

// outputs are those of the quickstart that it takes to ask the model.
type outputs struct {
	Endpoint struct {
		Value struct {
			BaseURL string `json:"base_url"`
			Model   string `json:"model"`
		} `json:"value"`
	} `json:"endpoint"`
	APIKey struct {
		Value string `json:"value"`
	} `json:"api_key"`
	SSH struct {
		Value struct {
			Host       string `json:"host"`
			Port       int    `json:"port"`
			User       string `json:"user"`
			PrivateKey string `json:"private_key"`
			HostKey    string `json:"host_key"`
		} `json:"value"`
	} `json:"ssh"`
}

// ask is what any client does: an SSH connection, and the OpenAI API through it. tools/openai asks with the official client.
func (d *demo) ask(ctx context.Context) error {
	out, err := d.stage.quiet(ctx, "output", "-json", "-no-color")
	if err != nil {
		return err
	}
	var o outputs
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		return fmt.Errorf("reading the outputs: %w", err)
	}
	ssh := o.SSH.Value
	machine, err := host.Dial(ctx, host.Config{
		Host: ssh.Host, Port: ssh.Port, User: ssh.User, PrivateKeys: []string{ssh.PrivateKey}, HostKey: ssh.HostKey,
	})
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	answer, err := complete(ctx, &http.Client{Transport: machine.HTTPTransport()}, &o, d.question)
	if err != nil {
		return fmt.Errorf("asking the model: %w", err)
	}
	fmt.Printf("   you:   %s\n   model: %s\n", d.question, answer)
	return nil
}

// complete returns the model's answer.
func complete(ctx context.Context, client *http.Client, o *outputs, question string) (string, error) {
	body, err := json.Marshal(map[string]any{
		"model": o.Endpoint.Value.Model, "max_tokens": 60, "messages": []any{map[string]string{"role": "user", "content": question}},
	})
	if err != nil {
		return "", err
	}
	url := strings.TrimSuffix(o.Endpoint.Value.BaseURL, "/") + "/chat/completions"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+o.APIKey.Value)
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if response.StatusCode != http.StatusOK {
		return "", errors.New(response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if len(answer.Choices) == 0 || strings.TrimSpace(answer.Choices[0].Message.Content) == "" {
		return "", errors.New("the answer is empty")
	}
	return strings.TrimSpace(answer.Choices[0].Message.Content), nil
}

// audit asks the sandbox, which knows of everything ever rented, what bills.
func (d *demo) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.stage.url+"/sandbox/ledger", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("reading the sandbox's ledger: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var ledger struct {
		Billing []json.RawMessage `json:"billing"`
		Rentals []json.RawMessage `json:"rentals"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&ledger); err != nil {
		return fmt.Errorf("reading the sandbox's ledger: %w", err)
	}
	if len(ledger.Billing) > 0 {
		return fmt.Errorf("%d machines are still billing: %s", len(ledger.Billing), ledger.Billing)
	}
	fmt.Printf("   %d rented in all, 0 billing\n", len(ledger.Rentals))
	return nil
}

// copyConfig copies the files of a configuration, and nothing that a run of it
// has left there.
func copyConfig(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.tf"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s holds no configuration", from)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
