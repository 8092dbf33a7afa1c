# Prints how many processes the kernel has killed because memory was full, one fact per line, as far as it can be read.
#
#   cgroup2 COUNT   of the container that the machine is (Documentation/admin-guide/cgroup-v2.rst: memory.events, oom_kill; a virtual
#                   or physical machine's root has no such file)
#   cgroup1 COUNT   the same with cgroup v1 (cgroup-v1/memory.rst: memory.oom_control)
#   kernel COUNT    of the kernel (/proc/vmstat, mm/oom_kill.c)
#   line TEXT       the last line about one in the kernel's log

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
