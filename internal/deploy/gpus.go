package deploy

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// smiTimeout is for one answer of nvidia-smi, which hangs where the driver does.
const smiTimeout = 30 * time.Second

// gpuFields are asked of nvidia-smi, in this order. Drivers before R470 don't know compute_cap, and are asked for what stands
// before it only.
var gpuFields = []string{"index", "uuid", "memory.total", "memory.used", "driver_version", "name", "compute_cap", "temperature.gpu"}

// basicGPUFields is how many of them every driver knows.
const basicGPUFields = 6

// Exit statuses of a command that couldn't be run at all, by POSIX.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// DriverError is nvidia-smi that doesn't work.
type DriverError struct {
	// Missing: there is no nvidia-smi. Otherwise it is there and can't talk to the driver.
	Missing bool
	said    string
}

func (e *DriverError) Error() string {
	if e.Missing {
		return "the machine has no nvidia-smi"
	}
	return "nvidia-smi fails: " + e.said
}

// QueryGPUs lists a machine's GPUs. A driver that doesn't work is a [DriverError].
func QueryGPUs(ctx context.Context, machine Machine) ([]GPU, error) {
	fields := gpuFields
	output, err := nvidiaSMI(ctx, machine, "--query-gpu="+strings.Join(fields, ","))
	if failed, ok := errors.AsType[*DriverError](err); ok && strings.Contains(failed.said, "not a valid field") {
		output, err = nvidiaSMI(ctx, machine, "--query-gpu="+strings.Join(fields[:basicGPUFields], ","))
	}
	if err != nil {
		return nil, err
	}
	return parseGPUs(output), nil
}

func nvidiaSMI(ctx context.Context, machine Machine, query string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, smiTimeout)
	defer cancel()
	result, err := machine.Run(limited, host.Command{Args: []string{"nvidia-smi", query, "--format=csv,noheader,nounits"}})
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return "", &DriverError{said: fmt.Sprintf("it did not answer within %s", smiTimeout)}
	case err != nil:
		return "", err
	}
	switch result.ExitCode {
	case 0:
		return result.Stdout, nil
	case exitNotFound, exitNotExecutable:
		return "", &DriverError{Missing: true}
	}
	// nvidia-smi writes its errors to standard output.
	said := strings.TrimSpace(result.Stdout + "\n" + result.Stderr)
	if len(said) > 400 {
		said = said[:400]
	}
	return "", &DriverError{said: strings.Join(strings.Fields(said), " ")}
}

// maxGPUs bounds the list.
const maxGPUs = 256

// parseGPUs reads what nvidia-smi lists. A figure that it doesn't tell ("[N/A]", "[Not Supported]", nothing) is zero; a line that
// is no GPU is left out.
func parseGPUs(output string) []GPU {
	var gpus []GPU
	for _, fields := range rows(output) {
		index, err := strconv.Atoi(fields[0])
		if err != nil || index < 0 || len(fields) < basicGPUFields || len(gpus) == maxGPUs {
			continue
		}
		gpu := GPU{
			Index: index, UUID: told(fields[1]), MemoryMiB: figure(fields[2]), UsedMiB: figure(fields[3]),
			DriverVersion: told(fields[4]), Name: told(fields[5]),
		}
		if len(fields) > basicGPUFields {
			gpu.ComputeCapability = told(fields[basicGPUFields])
		}
		if len(fields) >= len(gpuFields) {
			gpu.TemperatureC = figure(fields[basicGPUFields+1])
		}
		gpus = append(gpus, gpu)
	}
	return gpus
}

// rows are the lines of nvidia-smi's answer. It quotes nothing, whatever a field holds.
func rows(output string) [][]string {
	reader := csv.NewReader(strings.NewReader(output))
	reader.FieldsPerRecord, reader.LazyQuotes, reader.TrimLeadingSpace = -1, true, true
	lines, _ := reader.ReadAll() // with lazy quotes and any number of fields there is no mistake to make
	return lines
}

// told is a field's value, "" for the ways in which nvidia-smi says that it has none.
func told(field string) string {
	if strings.HasPrefix(field, "[") || field == "N/A" {
		return ""
	}
	return field
}

// figure is a field's number, zero when it is none. Units are tolerated.
func figure(field string) int {
	number, _, _ := strings.Cut(field, " ")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || value < 0 || value > 1<<30 {
		return 0
	}
	return int(value)
}

// GPUUser is a process that holds GPU memory.
type GPUUser struct {
	PID, MiB int
	GPU      string // UUID
	Name     string
}

func (u GPUUser) String() string {
	if u.MiB == 0 {
		return fmt.Sprintf("%s (pid %d)", u.Name, u.PID)
	}
	return fmt.Sprintf("%s (pid %d, %d MiB)", u.Name, u.PID, u.MiB)
}

// QueryGPUUsers lists the processes that hold GPU memory. Inside a container nvidia-smi doesn't see those outside.
func QueryGPUUsers(ctx context.Context, machine Machine) ([]GPUUser, error) {
	output, err := nvidiaSMI(ctx, machine, "--query-compute-apps=pid,used_memory,gpu_uuid,process_name")
	if err != nil {
		return nil, err
	}
	return parseGPUUsers(output), nil
}

func parseGPUUsers(output string) []GPUUser {
	var users []GPUUser
	for _, fields := range rows(output) {
		pid, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) < 4 || len(users) == maxGPUs {
			continue
		}
		name := told(strings.TrimSpace(strings.Join(fields[3:], ", ")))
		if name == "" {
			name = "another process"
		}
		users = append(users, GPUUser{PID: pid, MiB: figure(fields[1]), GPU: fields[2], Name: name})
	}
	return users
}
