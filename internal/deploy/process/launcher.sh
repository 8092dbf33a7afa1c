# Starts, watches and ends one server on a machine. It is the same for every deployment: arguments are quoted, and secrets come on
# standard input. It needs a POSIX shell, setsid, and Linux's /proc.
#
#   start DIR PROGRAM ARGUMENT…   starts the supervisor, and prints its identity. Standard input is the environment: lines
#                                 NAME=VALUE, with values escaped for printf %b, then an empty line
#   supervise DIR NAME… -- PROGRAM ARGUMENT…
#                                 is the supervisor, in its own session; the variables of these names are the server's
#   status DIR                    prints the server's status, one fact per line
#   list BASE                     prints the status of every server in BASE/servers
#   environment DIR               prints the variables that the server was started with, as /proc shows them
#   bound FILE BYTES SECONDS      keeps a log from filling the disk
#   ports DIR                     closes and prints the ports that the server has open on other addresses than loopback
#   stop DIR SECONDS DRAIN        sends TERM, and KILL after SECONDS, until no process of the session is left. Before that, for up to
#                                 DRAIN seconds, only the server gets TERM, so that it finishes its requests
#
# Files in DIR:
#
#   identity         PID STARTTIME of the supervisor
#   server           PID STARTTIME of the server
#   boot             the boot in which these are valid
#   state            running, restarting or exited
#   exit             CODE BEGAN ENDED of the last run
#   restarts         COUNT QUICK: how often the server was restarted, and how often in a row within a minute
#   settled          if present, the supervisor restarts the server when it dies
#   ports            close or leave; only if the release opens ports besides the server's own
#   closed/TOOL-PORT the firewall may have a rule for the port; "made" if it was inserted
#   open/PORT        the port stays open; the firewall's error
#   log, record.json, lock
set -u
umask 077

# read_stat PID sets state, pgrp, session and start from /proc/PID/stat. The program's name may contain anything and ends at the
# last ")".
read_stat() {
	state= pgrp= session= start=
	IFS= read -r line 2>/dev/null </proc/"$1"/stat || return 1
	case $line in *') '*) ;; *) return 1 ;; esac
	set -- ${line##*) }
	[ $# -ge 20 ] || return 1
	state=$1 pgrp=$3 session=$4
	shift 19
	start=$1
}

# this_boot prints an ID that changes when the machine, or the container that it is, restarts, after which pids are reused.
this_boot() {
	boot=
	IFS= read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id
	read_stat 1
	echo "$boot $start"
}

# is_of_this_boot DIR
is_of_this_boot() {
	[ ! -s "$1/boot" ] || [ "$(cat "$1/boot")" = "$(this_boot)" ]
}

# is_alive PID STARTTIME. The start time excludes a later process with the same pid.
is_alive() {
	read_stat "$1" && [ "$start" = "$2" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# lives FILE sets pid and born to those of the process in the file, and succeeds if it is alive.
lives() {
	pid= born=
	[ -s "$1" ] && read -r pid born <"$1" && is_of_this_boot "${1%/*}" && is_alive "$pid" "$born"
}

# members SESSION prints the living processes of a session, whatever their process group.
members() {
	for stat in /proc/[0-9]*/stat; do
		pid=${stat#/proc/}
		pid=${pid%/stat}
		read_stat "$pid" || continue
		case $state in Z | X) continue ;; esac
		if [ "$session" = "$1" ] || [ "$pgrp" = "$1" ]; then echo "$pid"; fi
	done
}

# kill_all SESSION kills its members, except for this shell. Python's resource tracker ends by itself after the others, and removes
# their shared memory; killed with them, it would leave some 240 MB (seen with vLLM 0.32.0).
kill_all() {
	for pid in $(members "$1"); do
		[ "$pid" = $$ ] && continue
		case $(tr '\0' ' ' 2>/dev/null </proc/"$pid"/cmdline) in *multiprocessing.resource_tracker*) continue ;; esac
		kill -s KILL "$pid" 2>/dev/null
	done
	tenths=50
	while [ "$tenths" -gt 0 ]; do
		others=
		# The list includes the subshell that made it, which has ended. One that we may not signal, such as a sudo, ends by itself.
		for pid in $(members "$1"); do [ "$pid" = $$ ] || [ ! -d "/proc/$pid" ] || others=yes; done
		[ -n "$others" ] || return 0
		tenths=$((tenths - 1))
		sleep 0.1
	done
	for pid in $(members "$1"); do [ "$pid" = $$ ] || kill -s KILL "$pid" 2>/dev/null; done
}

# write FILE TEXT replaces a file atomically.
write() {
	printf '%s\n' "$2" >"$1.new" && mv -f "$1.new" "$1"
}

# take_lock DIR waits for the lock of a server's directory. An interrupted start keeps it, through the supervisor that it started,
# until that has written its identity and can be ended.
take_lock() {
	(: >>"$1/lock") 2>/dev/null || return 0 # even with a full disk a server can be ended
	exec 9>"$1/lock"
	if command -v flock >/dev/null; then flock 9; fi
}

start_server() {
	dir=$1
	shift
	command -v setsid >/dev/null || { echo 'the machine has no setsid (package util-linux)' >&2; exit 3; }
	complete=
	# The server's variables have a prefix until it starts: its PATH, IFS or LD_PRELOAD are not for the launcher.
	set -- -- "$@"
	while IFS= read -r line; do
		[ -n "$line" ] || { complete=yes; break; }
		value=$(printf '%b.' "${line#*=}")
		export "SERVER_${line%%=*}=${value%.}"
		set -- "${line%%=*}" "$@"
	done
	# Without its last variables a server might serve without an API key.
	[ -n "$complete" ] || { echo 'the connection ended before all variables had come' >&2; exit 5; }
	take_lock "$dir"
	# Of two starts, such as an interrupted one and its repetition, the first wins.
	if lives "$dir/identity"; then echo "$pid $born"; return 0; fi
	reopen "$dir" >/dev/null
	rm -f "$dir/identity" "$dir/server" "$dir/state" "$dir/exit" "$dir/restarts" "$dir/settled"
	setsid sh "$dir/launcher.sh" supervise "$dir" "$@" </dev/null >>"$dir/log" 2>&1 &
	tries=0
	until [ -s "$dir/identity" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || { echo 'the server did not start within ten seconds' >&2; exit 4; }
		sleep 0.05
	done
	cat "$dir/identity"
}

# bound FILE BYTES SECONDS cuts a file that is larger to its last BYTES/2, every SECONDS, until it is removed. The file's writer must
# append.
bound() {
	while sleep "$3" && [ -e "$1" ]; do
		[ "$(wc -c <"$1")" -gt "$2" ] || continue
		tail -c $(($2 / 2)) "$1" >"$1.last" && cat "$1.last" >"$1"
		rm -f "$1.last"
	done
}

# listened SESSION prints the sockets on which a session listens on other addresses than loopback: tcp-PORT or tcp6-PORT, one per
# line. In /proc/net/tcp an address's four bytes are reversed, and a listener's state is 0A (Linux,
# Documentation/networking/proc_net_tcp.rst).
listened() {
	pids=$(sed -n "s/^\([0-9]*\) (.*) [A-Za-z] [0-9]* [0-9]* $1 .*/\1/p" /proc/[0-9]*/stat 2>/dev/null)
	sockets=$(ls -l $(printf '/proc/%s/fd ' $pids) 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/ \1 /p')
	for family in tcp tcp6; do
		grep ' 0A ' "/proc/net/$family" 2>/dev/null | while read -r _ address _ _ _ _ _ _ _ socket _; do
			case $address in
			??????7F:* | 0000000000000000FFFF0000??????7F:* | 00000000000000000000000001000000:*) continue ;;
			esac
			case $sockets in *" $socket "*) echo "$family-$((0x${address#*:}))" ;; esac
		done
	done
}

# rule DIR TOOL DO PORT inserts (-I), looks for (-C) or deletes (-D) the firewall's rule for a port of the server.
rule() {
	firewall "$2" -w 60 "$3" INPUT ! -i lo -p tcp --dport "$4" -m comment --comment "shopper:${1##*/}" -j DROP
}

# firewall TOOL ARGUMENT… runs iptables or ip6tables as root.
firewall() {
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || { echo 'changing its rules takes root, or sudo without a password' >&2; return 1; }
		sudo -n "$@"
	elif command -v "$1" >/dev/null; then
		"$@"
	else
		echo "the machine has no $1" >&2
		return 127
	fi
}

# close_port DIR TOOL PORT inserts the rule. It records it first, so that the rule is deleted again whatever happens.
close_port() {
	mark=$1/closed/$2-$3 fresh=yes
	if [ -e "$mark" ]; then
		rule "$1" "$2" -C "$3" 2>/dev/null && return
		fresh=
	fi
	if ! said=$( (mkdir -p "$1/closed" && : >>"$mark") 2>&1); then
		:
	elif said=$(rule "$1" "$2" -I "$3" 2>&1); then
		echo made >"$mark"
		return
	elif [ -n "$fresh" ]; then
		rm -f "$mark"
	fi
	mkdir -p "$1/open"
	write "$1/open/$3" "$(printf %s "$said" | tr -s '\n\t ' ' ' | cut -c 1-300)"
	return 1
}

# close_ports DIR SESSION closes the open ports of a session that are not in known, under the lock.
close_ports() {
	read -r wish <"$1/ports" || return
	for socket in $(listened "$2"); do
		case $known in *" $socket "*) continue ;; esac
		known="$known $socket "
		take_lock "$1"
		port=${socket#*-} tools=iptables
		rm -f "$1/open/$port"
		# A socket of IPv6 mostly accepts IPv4 as well.
		[ "${socket%-*}" = tcp ] || tools='iptables ip6tables'
		[ "$wish" = close ] || { tools= && mkdir -p "$1/open" && write "$1/open/$port" ''; }
		for tool in $tools; do close_port "$1" "$tool" "$port" || break; done
		exec 9>&-
	done
}

# keep_closed DIR SESSION PID STARTTIME closes the ports that a session opens, mostly in its first minutes, until its server ends.
keep_closed() {
	known= looks=0
	while is_alive "$3" "$4"; do
		close_ports "$1" "$2"
		looks=$((looks + 1))
		if [ "$looks" -lt 600 ]; then sleep 1; else sleep 10; fi
	done
	reopen "$1" >/dev/null # the supervisor may have been killed
}

# reopen DIR deletes the server's rules from the firewall, and prints those that may be left.
reopen() {
	for mark in "$1"/closed/*-*; do
		[ -e "$mark" ] || continue
		port=${mark##*-} tool=${mark##*/}
		tool=${tool%-*}
		while rule "$1" "$tool" -D "$port" 2>/dev/null; do :; done
		# Only the list shows that a rule is gone. Without the right to list rules, none was inserted, unless it was recorded.
		if rules=$(firewall "$tool" -w 60 -S INPUT 2>/dev/null); then
			found=$(printf '%s\n' "$rules" | grep -F "shopper:${1##*/}" | grep -F -e "--dport $port ")
		else
			found=$(cat "$mark")
		fi
		if [ -n "$found" ]; then echo "left $tool $port"; else rm -f "$mark"; fi
	done
	rm -rf "${1:?}/open"
}

# ports DIR tries again to close all ports, and prints `closed PORT`, or `open PORT WHY`, for each.
ports() {
	[ -e "$1/ports" ] || return 0
	known=
	read -r pid born <"$1/identity" && close_ports "$1" "$pid"
	take_lock "$1" # waits for the supervisor's changes
	for mark in "$1"/closed/*-* "$1"/open/*; do
		[ -e "$mark" ] || continue
		case $mark in */open/*) echo "open ${mark##*/} $(cat "$mark")" ;; *) echo "closed ${mark##*-}" ;; esac
	done
}

# toolkit_of PROGRAM prints the directory of the CUDA toolkit in the program's environment.
toolkit_of() {
	for toolkit in "${1%/bin/*}"/lib/python3*/*-packages/nvidia/cu1[0-9]; do
		[ ! -x "$toolkit/bin/nvcc" ] || { echo "$toolkit"; return; }
	done
}

# with_variables NAME… -- PROGRAM ARGUMENT… becomes the program, with the server's variables. It uses no others, which could
# overwrite one of those.
with_variables() {
	while [ "$1" != -- ]; do
		eval "export $1=\"\$SERVER_$1\""
		unset "SERVER_$1"
		shift
	done
	shift
	# Programs that vLLM starts are first looked up beside it.
	case $1 in */bin/*) export PATH="${1%/*}:$PATH" ;; esac
	# vLLM's packages include a CUDA toolkit, which vLLM finds only through CUDA_HOME (0.33.0 otherwise disables FlashInfer's
	# kernels). Its compiler needs g++.
	if [ -z "${CUDA_HOME-}${CUDA_PATH-}" ] && command -v g++ >/dev/null && ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
		set -- "$(toolkit_of "$1")" "$@"
		[ -z "$1" ] || export CUDA_HOME="$1"
		shift
	fi
	exec "$@"
}

# announce DIR separates the log of earlier starts from that of the next one.
announce() {
	[ ! -s "$1/log" ] || echo "[launcher] starting the server"
}

supervise() {
	dir=$1
	shift
	child= stopping= restarts=0 quick=0 pause=1
	trap 'stopping=yes; [ -z "$child" ] || kill -s TERM "$child" 2>/dev/null' TERM
	write "$dir/boot" "$(this_boot)"
	read_stat $$
	announce "$dir" # before the identity, after which the log is read
	write "$dir/identity" "$$ $start" || exit 1 # the directory was removed: nobody would find this server
	exec 9>&-
	while :; do
		write "$dir/state" running
		began=$(date +%s)
		# A server writes a line for each request: bound its log as a container's is. The subshell keeps its end from being reported.
		(bound "$dir/log" 134217728 60 &)
		with_variables "$@" &
		child=$!
		read_stat "$child" && write "$dir/server" "$child $start"
		[ ! -e "$dir/ports" ] || (keep_closed "$dir" $$ "$child" "$start" &)
		# A trapped signal interrupts wait while the server still runs.
		while :; do
			wait "$child"
			code=$?
			kill -s 0 "$child" 2>/dev/null || break
		done
		child=
		ended=$(date +%s)
		write "$dir/exit" "$code $began $ended"
		# As in a container, all that the server started ends with it.
		kill_all $$
		reopen "$dir" >/dev/null
		if [ -n "$stopping" ] || [ ! -e "$dir/settled" ]; then
			write "$dir/state" exited # before the log's last line, after which the state is read
			echo "[launcher] ended with exit code $code"
			exit "$code"
		fi
		restarts=$((restarts + 1))
		if [ $((ended - began)) -ge 60 ]; then quick=0 pause=1; else quick=$((quick + 1)); fi
		write "$dir/restarts" "$restarts $quick"
		write "$dir/state" restarting
		echo "[launcher] the server ended with exit code $code; starting it again in $pause s"
		sleep "$pause" &
		wait $!
		[ -z "$stopping" ] || exit "$code"
		pause=$((pause * 2))
		[ "$pause" -le 60 ] || pause=60
		announce "$dir"
	done
}

status() {
	[ -f "$1/record.json" ] || { echo 'state gone'; return; }
	if lives "$1/identity"; then
		now=running
		[ ! -s "$1/state" ] || read -r now <"$1/state"
	else
		now=exited
	fi
	echo "identity $pid $born"
	# A killed supervisor leaves its server running, and nothing would restart that.
	if [ "$now" = exited ] && lives "$1/server"; then now=orphaned; fi
	echo "state $now"
	for file in exit restarts; do
		[ ! -s "$1/$file" ] || { read -r text <"$1/$file" && echo "$file $text"; }
	done
	[ ! -e "$1/settled" ] || echo 'settled yes'
	[ ! -s "$1/identity" ] || echo "started $(stat -c %Y "$1/identity" 2>/dev/null)"
	IFS= read -r record <"$1/record.json"
	printf 'record %s\n' "$record"
}

list() {
	for server in "$1"/servers/*/; do
		[ -f "${server}record.json" ] || continue
		server=${server%/}
		printf 'server %s\n' "${server##*/}"
		status "$server"
	done
}

environment() {
	lives "$1/identity" || lives "$1/server" || { echo 'the server has ended' >&2; return 1; }
	cat "/proc/$pid/environ"
}

# signal_all SIGNAL SESSION
signal_all() {
	for pid in $(members "$2"); do kill -s "$1" "$pid" 2>/dev/null; done
}

# until_gone SESSION TENTHS SIGNAL repeats the signal until the session has ended: an engine ignores one while it warms up.
until_gone() {
	tenths=$2
	while [ -n "$(members "$1")" ]; do
		[ "$tenths" -gt 0 ] || return 1
		tenths=$((tenths - 1))
		[ $((tenths % 20)) -ne 0 ] || signal_all "$3" "$1"
		sleep 0.1
	done
}

# end DIR SECONDS DRAIN ends the session, as stop does.
end() {
	[ -d "$1" ] || return 0
	take_lock "$1"
	exec 9>&-
	[ -s "$1/identity" ] || return 0
	is_of_this_boot "$1" || return 0 # the number may be another session's by now
	read -r pid born <"$1/identity"
	leader=$pid
	# The kernel reuses no pid of a session that still has members: another start time means that all of ours have ended.
	if read_stat "$leader" && [ "$start" != "$born" ]; then return 0; fi
	if [ "$3" -gt 0 ] && kill -s TERM "$leader" 2>/dev/null; then
		until_gone "$leader" $(($3 * 10)) 0 && return 0
	fi
	signal_all TERM "$leader"
	until_gone "$leader" $(($2 * 10)) TERM && return 0
	kill_all "$leader"
	until_gone "$leader" 100 KILL && return 0
	echo "these processes don't end:" $(members "$leader") >&2
	return 1
}

# stop DIR SECONDS DRAIN ends the session, and prints the server's rules that are left in the firewall.
stop() { end "$@" && reopen "$1"; }

mode=$1
shift
case $mode in
start) start_server "$@" ;;
supervise) supervise "$@" ;;
status) status "$@" ;;
list) list "$@" ;;
environment) environment "$@" ;;
bound) bound "$@" ;;
ports) ports "$@" ;;
stop) stop "$@" ;;
*) echo "unknown mode $mode" >&2; exit 2 ;;
esac
