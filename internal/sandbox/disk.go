package sandbox

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// diskNeed is the service's estimate of the disk that a model needs, in GB.
type diskNeed struct {
	Weights      float64 `json:"model_weight_gb"`
	Buffer       float64 `json:"download_buffer_gb"`
	Image        float64 `json:"docker_image_gb"`
	System       float64 `json:"system_overhead_gb"`
	Minimum      int     `json:"minimum_gb"`
	Recommended  int     `json:"recommended_gb"`
	Model        string  `json:"model_id,omitempty"`
	Quantization string  `json:"quantization,omitempty"`
	Billions     float64 `json:"param_count_b,omitempty"`
}

// parameterCount finds "70B", "1.1b" or "8x7B" in a model's name.
var parameterCount = regexp.MustCompile(`(?i)[-_](?:(\d+)x)?(\d+(?:\.\d+)?)b(?:[-_.]|$)`)

// estimateDisk estimates from the model's name; ok is false if the name has no size.
func estimateDisk(model, quantization, template string) (need diskNeed, ok bool) {
	match := parameterCount.FindStringSubmatch(model)
	if match == nil {
		return diskNeed{}, false
	}
	billions, err := strconv.ParseFloat(match[2], 64)
	if err != nil || billions == 0 {
		return diskNeed{}, false
	}
	if experts, err := strconv.ParseFloat(match[1], 64); err == nil {
		billions *= experts
	}
	quantization = cmp.Or(quantization, quantizationOf(model))
	need = diskNeed{Model: model, Quantization: quantization, Billions: billions, Image: 10, System: 5}
	if template != "" {
		need.Image = 15
	}
	need.Weights = billions * cmp.Or(bytesPerParameter[strings.ToUpper(quantization)], 2)
	need.Buffer = need.Weights / 2
	minimum := need.Weights + need.Buffer + need.Image + need.System
	need.Minimum = int(math.Ceil(minimum))
	need.Recommended = (int(math.Ceil(minimum*1.2)) + 4) / 5 * 5
	return need, true
}

func quantizationOf(model string) string {
	upper := strings.ToUpper(model)
	for _, q := range []string{"AWQ", "GPTQ", "FP8", "INT8", "INT4"} {
		if strings.Contains(upper, "-"+q) || strings.Contains(upper, "_"+q) {
			return q
		}
	}
	return ""
}

// bytesPerParameter are those of quantized weights; others have 2.
var bytesPerParameter = map[string]float64{
	"FP32": 4, "FP8": 1, "INT8": 1, "AWQ": 0.5625, "GPTQ": 0.5625, "INT4": 0.5, "GGUF-Q4": 0.5,
}

// refusal is the service's error message for a disk that is too small.
func (n diskNeed) refusal(requested int) string {
	return fmt.Sprintf("insufficient disk space: %d GB requested, minimum %d GB required (recommended: %d GB)"+
		" — breakdown: model weights: %.1f GB, download buffer: %.1f GB, docker image: %.0f GB, system overhead: %.0f GB",
		requested, n.Minimum, n.Recommended, n.Weights, n.Buffer, n.Image, n.System)
}
