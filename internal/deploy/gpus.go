package deploy

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// smiTimeout bounds one run of nvidia-smi, which hangs when the driver does.
const smiTimeout = 30 * time.Second

// gpuFields are the fields that nvidia-smi is asked for, in order. Drivers before R470 don't know compute_cap: they are asked for
// the fields before it.
var gpuFields = []string{"index", "uuid", "memory.total", "memory.used", "driver_version", "name", "compute_cap", "temperature.gpu"}

// basicGPUFields is how many of them every driver knows.
const basicGPUFields = 6

// Exit statuses of a shell whose command could not be run, by POSIX.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// DriverError is a failure of nvidia-smi.
type DriverError struct {
	// Missing is set if the machine has no nvidia-smi. Otherwise nvidia-smi can't talk to the driver.
	Missing bool
	said    string
}

func (e *DriverError) Error() string {
	if e.Missing {
		return "the machine has no nvidia-smi"
	}
	return "nvidia-smi fails: " + e.said
}

// maxGPUs bounds what is read of nvidia-smi's lists.
const maxGPUs = 256

// QueryGPUs lists a machine's GPUs. A figure that nvidia-smi doesn't have ("[N/A]", "[Not Supported]", nothing) is zero. If the driver
// doesn't work, the error is a [DriverError].
func QueryGPUs(ctx context.Context, machine Machine) ([]GPU, error) {
	output, err := nvidiaSMI(ctx, machine, "--query-gpu="+strings.Join(gpuFields, ","))
	if failed, ok := errors.AsType[*DriverError](err); ok && strings.Contains(failed.said, "not a valid field") {
		output, err = nvidiaSMI(ctx, machine, "--query-gpu="+strings.Join(gpuFields[:basicGPUFields], ","))
	}
	if err != nil {
		return nil, err
	}
	var gpus []GPU
	for _, fields := range rows(output) {
		index, err := strconv.Atoi(fields[0])
		if err != nil || index < 0 || len(fields) < basicGPUFields || len(gpus) == maxGPUs {
			continue
		}
		fields = append(fields, "", "") // an old driver's have neither compute_cap nor temperature.gpu
		gpus = append(gpus, GPU{
			Index: index, UUID: text(fields[1]), MemoryMiB: figure(fields[2]), UsedMiB: figure(fields[3]),
			DriverVersion: text(fields[4]), Name: text(fields[5]), ComputeCapability: text(fields[6]), TemperatureC: figure(fields[7]),
		})
	}
	return gpus, nil
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
	return "", &DriverError{said: strings.Join(strings.Fields(said[:min(len(said), 400)]), " ")}
}

// rows splits nvidia-smi's output into fields. nvidia-smi never quotes.
func rows(output string) [][]string {
	reader := csv.NewReader(strings.NewReader(output))
	reader.FieldsPerRecord, reader.LazyQuotes, reader.TrimLeadingSpace = -1, true, true
	lines, _ := reader.ReadAll() // with lazy quotes and any number of fields it can't fail
	return lines
}

// text is a field's value, "" if nvidia-smi has none.
func text(field string) string {
	if strings.HasPrefix(field, "[") || field == "N/A" {
		return ""
	}
	return field
}

// figure is a field's number, with or without a unit; 0 if it is no number.
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

// QueryGPUUsers lists the processes that hold GPU memory. Inside a container nvidia-smi lists none from outside.
func QueryGPUUsers(ctx context.Context, machine Machine) ([]GPUUser, error) {
	output, err := nvidiaSMI(ctx, machine, "--query-compute-apps=pid,used_memory,gpu_uuid,process_name")
	if err != nil {
		return nil, err
	}
	var users []GPUUser
	for _, fields := range rows(output) {
		pid, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) < 4 || len(users) == maxGPUs {
			continue
		}
		name := text(strings.TrimSpace(strings.Join(fields[3:], ", ")))
		users = append(users, GPUUser{PID: pid, MiB: figure(fields[1]), GPU: fields[2], Name: cmp.Or(name, "another process")})
	}
	return users, nil
}
