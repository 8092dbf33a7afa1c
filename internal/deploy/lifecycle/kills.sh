# Prints what the kernel tells of processes that it killed because memory was full, one fact a line; what can't be read is left out.
#
#   cgroup2 COUNT   of the container that this machine is (Documentation/admin-guide/cgroup-v2.rst: memory.events, oom_kill; the
#                   root of a whole machine has no such file)
#   cgroup1 COUNT   the same where cgroups are of version 1 (cgroup-v1/memory.rst: memory.oom_control)
#   kernel COUNT    of the kernel (/proc/vmstat, mm/oom_kill.c)
#   line TEXT       its log's last line about one

# count NAME FILE
count() {
	while read -r word value; do
		if [ "$word" = oom_kill ]; then echo "$1 $value"; fi
	done 2>/dev/null <"$2"
}
[ ! -r /sys/fs/cgroup/memory.events ] || count cgroup2 /sys/fs/cgroup/memory.events
[ ! -r /sys/fs/cgroup/memory/memory.oom_control ] || count cgroup1 /sys/fs/cgroup/memory/memory.oom_control
[ ! -r /proc/vmstat ] || count kernel /proc/vmstat
{ dmesg || sudo -n dmesg || journalctl -k -n 5000 --no-pager; } 2>/dev/null | grep 'Killed process' | tail -n 1 | sed 's/^/line /'
exit 0
