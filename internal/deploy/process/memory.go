package process

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

const (
	// memoryTime is how long a GPU may take to return the memory of a process that has ended.
	memoryTime = 20 * time.Second
	// memorySlackMiB is what a driver's own figures may differ by.
	memorySlackMiB = 512
)

// awaitMemory waits until the GPUs hold no more than before the start, but for what living processes hold by now, and
// returns what is wrong with that, "" for nothing. Figures that nvidia-smi doesn't tell are not waited for.
func (h *Host) awaitMemory(ctx context.Context, before []int) string {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	var pace deploy.Pace
	for {
		gpus, err := deploy.QueryGPUs(ctx, h.machine)
		if err != nil {
			return ""
		}
		held := heldSince(gpus, before)
		if held != "" {
			held = heldSince(withoutUsers(gpus, h.users(ctx)), before)
		}
		if held == "" {
			return ""
		}
		if pace.Wait(ctx) != nil {
			return "no process of it, but GPU memory that has not come back: " + held
		}
	}
}

// users are the processes that nvidia-smi shows; inside a container it may show none.
func (h *Host) users(ctx context.Context) []deploy.GPUUser {
	users, err := deploy.QueryGPUUsers(ctx, h.machine)
	if err != nil {
		return nil
	}
	return users
}

// withoutUsers are the GPUs with what nobody among the users holds.
func withoutUsers(gpus []deploy.GPU, users []deploy.GPUUser) []deploy.GPU {
	for i := range gpus {
		for _, user := range users {
			if user.GPU == gpus[i].UUID {
				gpus[i].UsedMiB -= user.MiB
			}
		}
	}
	return gpus
}

func heldSince(gpus []deploy.GPU, before []int) string {
	var held []string
	for i, gpu := range gpus {
		if i < len(before) && gpu.UsedMiB > before[i]+memorySlackMiB {
			held = append(held, fmt.Sprintf("GPU %d holds %d MiB, %d before the start", gpu.Index, gpu.UsedMiB, before[i]))
		}
	}
	return strings.Join(held, ", ")
}
