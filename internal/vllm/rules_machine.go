package vllm

// machineRules are about the machine: its GPUs, driver, disk and ports.
var machineRules = []rule{
	{
		kind: KindGPUTooOld,
		pattern: oneOf(`quantization method \S+ is not supported for the current GPU`,
			`no kernel image is available for execution`),
		explain: explainGPUTooOld,
	},
	{
		kind:    KindUnsupportedDType,
		pattern: oneOf(`Bfloat16 is only supported on GPUs with compute capability`, `bfloat16 is only supported on GPUs with compute capability`),
		cause:   "The GPU doesn't support bfloat16, which needs compute capability 8.0.",
		wayOut:  `Set dtype to "half", or use a GPU with compute capability 8.0 or newer (such as A100, L4 or RTX 3090).`,
	},
	{
		kind:    KindUnsupportedDType,
		pattern: oneOf(`is not supported for quantization method \S+ Supported dtypes`, `model type \S+ does not support float16`),
		cause:   "The model doesn't support this dtype.",
		wayOut:  "Remove dtype, or set it to one that the log message names.",
	},
	{
		kind:    KindTooFewGPUs,
		pattern: oneOf(`larger than the number of available GPUs \(([1-9]\d*)\)`),
		cause:   "The server is configured for more GPUs than the ${1} that it sees.",
		wayOut:  "Set tensor_parallel_size and pipeline_parallel_size so that their product is ${1}, or rent a machine with more GPUs.",
	},
	{
		kind:    KindTooFewGPUs,
		pattern: oneOf(`larger than the number of available GPUs`),
		cause:   "The server is configured for more GPUs than it sees.",
		wayOut:  "Lower tensor_parallel_size or pipeline_parallel_size to the machine's number of GPUs, or rent a machine with more.",
	},
	{
		kind: KindSharedMemoryFull,
		pattern: oneOf(`No space left on device.*/dev/shm`, `/dev/shm.*No space left on device`,
			`Error while creating shared memory segment`, `insufficient shared memory`),
		cause:  "The container's shared memory is full.",
		wayOut: "Raise the container's shm_size.",
	},
	{ // failures/disk-full.log
		kind:    KindDiskFull,
		pattern: oneOf(`No space left on device`, `no space left on device`, `Disk quota exceeded`),
		cause:   "The machine's disk is full.",
		wayOut:  "Rent a machine with a larger disk_gb (enough for the image and for the weights twice), or remove other files.",
	},
	{ // nvidia-smi, libnvidia-container, pynvml and the CUDA driver (Error 803)
		kind: KindDriverMismatch,
		pattern: oneOf(`Driver/library version mismatch`, `driver/library version mismatch`, `NVMLError_LibRmVersionMismatch`, `NVML/RM version mismatch`,
			`Error 803: system has unsupported display driver / cuda driver combination`),
		cause: "The NVIDIA driver was updated while the old one is still loaded: its kernel module and its library have different" +
			" versions.",
		wayOut: "Reboot the machine, or wait: on some clouds the driver is rebuilt for up to half an hour after boot. If neither helps," +
			" rent another machine.",
	},
	{
		kind: KindDriverTooOld,
		pattern: oneOf(`unsatisfied condition: cuda`, `driver.{0,100} too old`, `Error 804: forward compatibility`,
			`forward compatibility was attempted on non supported HW`, `cudaErrorUnsupportedPtxVersion`,
			`PTX was compiled with an unsupported toolchain`, `CUDA driver version is insufficient`),
		explain: explainDriver,
	},
	{ // libnvidia-container (src/cli), Docker's CDI and PyTorch
		kind: KindUnknownGPU,
		pattern: oneOf(`device error: ([^:\s]+): unknown device`, `unresolvable CDI devices nvidia\.com/gpu=(\d+|GPU-[\w-]+)`,
			`invalid device (ordinal)`),
		cause:  "The server is configured for a GPU that the machine doesn't have (device ${1}).",
		wayOut: "Compare container.gpus and CUDA_VISIBLE_DEVICES in env with the GPUs that nvidia-smi lists.",
	},
	{
		kind: KindContainerToolkit,
		pattern: oneOf(`could not select device driver`, `unresolvable CDI devices`, `no known GPU vendor`,
			`nvidia-container-cli`, `exec: "nvidia-container-runtime`),
		cause: "The container engine has no GPU support: the NVIDIA container toolkit is missing or not set up.",
		wayOut: "Install the NVIDIA container toolkit on the machine and restart the engine (for Podman: `nvidia-ctk cdi generate" +
			" --output=/etc/cdi/nvidia.yaml`), or use runtime = \"process\".",
	},
	{ // failures/port-taken.log
		kind:    KindPortTaken,
		pattern: oneOf(`address already in use`, `Address already in use`, `port is already allocated`, `EADDRINUSE`),
		explain: explainPort,
	},
	{ // more/address.log
		kind:    KindAddress,
		pattern: oneOf(`Cannot assign requested address`, `could not bind on any address`),
		cause:   "The machine doesn't have the address that the server should listen on.",
		wayOut: "Listen on 0.0.0.0 (exposure = \"public\") or 127.0.0.1 instead: on many clouds a machine doesn't have its public" +
			" address itself.",
	},
}

// buildRules are about what a start compiles and loads besides the model.
var buildRules = []rule{
	{ // triton/runtime/build.py (github.com/vllm-project/vllm/issues/2997, 15329); PyTorch, torch/_inductor/cpp_builder.py
		kind:    KindNoCompiler,
		pattern: oneOf(`Failed to find (C) compiler`, `No working (C\+\+) compiler found`, `InvalidCxxCompiler`),
		cause:   "The machine has no ${1} compiler, which vLLM needs to compile kernels at its start.",
		wayOut: "Remove process.install, so that the provider installs one if root or sudo allows it, or install it yourself: `apt-get" +
			" update && apt-get install -y gcc g++ libc6-dev` (on Vast.ai in on_start_cmd).",
	},
	{ // gcc (github.com/vllm-project/vllm/issues/27890)
		kind:    KindPythonHeaders,
		pattern: oneOf(`fatal error: Python\.h: No such file or directory`),
		cause:   "Python.h is missing: compiling kernels for a distribution's Python requires its headers.",
		wayOut: "Install the headers of vLLM's Python (python3-dev), or set process.version to another release: it is installed for" +
			" uv's own Python, which has them.",
	},
	{ // the dynamic linker, through Python's import
		kind: KindCUDALibrary,
		pattern: oneOf(`libcudart\.so\.\d+\S*: cannot open`, `libcublas(?:Lt)?\.so\.\d+\S*: cannot open`, `libnvrtc\.so\.\d+\S*: cannot open`,
			`libcudnn\.so\.\d+\S*: cannot open`),
		cause: "A CUDA library is missing: vLLM and the packages installed with it are built for different CUDA versions.",
		wayOut: "Install the release with its declared dependencies (a different process.directory starts fresh), or use its image in a" +
			" container.",
	},
}
