package process

import (
	"regexp"
	"strings"
)

// installCause is why an installation failed, found by what uv 0.13.9 was recorded to say.
type installCause struct {
	pattern *regexp.Regexp
	// cause may hold the pattern's groups, as ${1} and so on.
	cause, wayOut string
}

const ownInstallation = ", or install vLLM on the machine in another way and set process.install = \"never\"."

// installCauses are in their order: the first that matches is told.
var installCauses = []installCause{
	{
		regexp.MustCompile(`No space left on device`),
		"The machine's disk is full.", "Rent a machine with a larger disk (disk_gb), or make room.",
	},
	{
		regexp.MustCompile(`current Python version \(([\d.]+)\) does not satisfy Python(\S+?) and (\S+) depends`),
		"The machine's Python is ${1}, and ${3} needs ${2}.",
		"Install a Python that fits, choose a release that runs on this one with process.version" + ownInstallation,
	},
	{
		regexp.MustCompile(`there is no version of (vllm\S*)`),
		"There is no release ${1}.", "Check process.version.",
	},
	{
		regexp.MustCompile(`No interpreter found for Python (\S+)`),
		"The machine has no Python ${1}.", "Install it on the machine" + ownInstallation,
	},
	{
		regexp.MustCompile("Failed to download `https://github\\.com/[^/]*/python-build-standalone"),
		"The machine has no Python that fits (3.11 or 3.12, with its headers), and uv's own, which comes from github.com, can't be downloaded.",
		"Check the machine's network, or install a Python that fits and its python3-dev" + ownInstallation,
	},
	{
		regexp.MustCompile(`(?s)Failed to fetch: .?https?://([^/\s]+)/.*(dns error|Connection refused|timed out)`),
		"The machine can't fetch from ${1} (${2}).", "Check the machine's network and its proxy (HTTPS_PROXY)" + ownInstallation,
	},
	{
		regexp.MustCompile(`DO NOT MATCH THE HASHES`),
		"The uv that pip was given is not the one that this provider knows.",
		"Check the package index that the machine's pip is configured with" + ownInstallation,
	},
	{
		regexp.MustCompile(`uv could not be installed`),
		"The machine's pip can't install uv, which installs vLLM.", "Check the machine's network" + ownInstallation,
	},
	{
		regexp.MustCompile(`(?m)^E: (?:Unable to locate package|Package '?)\s*(\S+)`),
		"apt-get has no package ${1}.", "Check the machine's /etc/apt and its network, or choose an image that has it.",
	},
	{
		regexp.MustCompile(`apt-get could not install (.*)`),
		"The packages ${1} could not be installed.", "See the log, and install them on the machine or choose an image that has them.",
	},
	{
		regexp.MustCompile(`No solution found`),
		"The release and what it depends on can't be installed together on this machine.", "Check process.version.",
	},
}

// explainInstall returns the cause and the way out that an installation's log tells, "" for none.
func explainInstall(log []string) (cause, wayOut string) {
	text := strings.Join(log, "\n")
	for _, row := range installCauses {
		if found := row.pattern.FindStringSubmatchIndex(text); found != nil {
			return string(row.pattern.ExpandString(nil, row.cause, text, found)), row.wayOut
		}
	}
	return "", ""
}
