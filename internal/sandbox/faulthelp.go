package sandbox

import (
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// faultHelp says at /sandbox/ what the constants of Fault say in Go.
const faultHelp = `
A rule: {"route", "nth", "fault", "value"} and, if wanted, "times" (how many calls from nth on), "consumer" and "offer"
(only those). route is a method and a path ("*" for any; {id} for a part of it) or one of the events below; nth counts
the matching calls from 1, 0 means all. In brackets: the value, and what it is when left out.

Any route:
  lose_answer_before   close the connection, nothing takes effect
  lose_answer_after    close it after the request took effect
  delay, delay_after   wait before, or between the effect and the answer [30s]
  status               answer this instead [500, or {"status", "retry_after", "error", "after"}; retry_after is seconds,
                       "date:30s", "nonsense" or "day"]
  status_after         the same after the effect [502]
  rate_limit           429 beyond that many requests in a second of real time [10]
  truncate             cut the answer off [bytes; half]
  invalid_json, html   another body than the service's [html: as status; 502 after the effect]
  slow_drip            spread the answer's bytes over a time [30s]
  closed_port          refuse all connections for a time [60s]
  no_key, no_id        leave ssh_private_key, or all ids, out of the answer
  not_ready            what /health and /ready say during the start-up sweep
  claim_success        a DELETE or done that does nothing and answers 200
  offers_gone          an inventory without offers

"machine create", a cloud is asked for a machine:
  offers_gone          the offer is gone: stale_inventory [for how long; for good]
  price_raised         it costs more than was offered; only the POST's answer and the ledger say so [factor; 1.5]
  service_killed       the service is killed and back after a while [10s]: the session is failed, the machine made
  provider_error       the cloud refuses [its words]
  address_later        no ssh_host before the service has asked again
  delay                the cloud takes its time

"machine boot":
  never_boots, boots_late [5m later]
  lose_ssh, unresponsive               for a time [1m, or {"for", "after"}]
  change_host_key, change_address      when [once it runs]
  refuse_key, vanish                   when [at once]
  disk_full, no_docker, no_gpu_runtime, not_available (nvidia-smi reads [N/A])
  driver_building [10m], driver_missing, driver_version [550.127.05]
  memory_held          by somebody else [MiB per GPU; 20000]
  engine_hangs [5m], pull_fails [its words], slow_pull [5m]

"container start", vLLM starts, in a container or not:
  fail_start           [a failure's name, see below]
  exit_after           once it is ready [30s]
  restart_loop, hang (/health stays 200)

"machine destroy":
  destroy_fails        the cloud answers an error
  destroy_slow         [3m]
  claim_success        the cloud says that it is gone, and bills on
`

// failureHelp lists the failures that fail_start can name.
func failureHelp() string {
	var text strings.Builder
	text.WriteString("\nWays for vLLM's start to fail:\n")
	for _, failure := range vllmserver.Failures() {
		text.WriteString("  " + failure.Name + "\n")
	}
	text.WriteString("or as one of the recorded failures did:\n  " + strings.Join(facts.Failures(), "\n  ") + "\n")
	return text.String()
}
