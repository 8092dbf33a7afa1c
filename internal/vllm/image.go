package vllm

// ValidateImage refuses an image reference that can change under the user's feet.
func ValidateImage(ref string) error { return nil }

// ImageVersion is the vLLM release of an image, as its tag says.
func ImageVersion(ref string) (string, bool) { return "", false }

// MinimumDriver is the oldest NVIDIA driver branch (such as 580) that the default build of a vLLM release runs on; 0 when unknown.
func MinimumDriver(version string) int { return 0 }
