# Installs Docker from the distribution's packages and, with the argument "gpus", NVIDIA's container toolkit from NVIDIA's
# (https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html). It needs root, and Debian or
# Ubuntu with systemd. It doesn't touch what is installed. If it was interrupted, run it again.
umask 022
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

# apt ACTION ARGUMENT… waits for a running installation, such as a machine's first upgrade. apt-get install does so by itself, and
# apt-get update, which has another lock, doesn't.
apt() {
	tries=60
	until apt-get -q -y -o DPkg::Lock::Timeout=3600 "$@" </dev/null 2>"$scratch/error"; do
		cat "$scratch/error" >&2
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		case $(cat "$scratch/error") in
		*'dpkg was interrupted'*) dpkg --configure -a </dev/null ;;
		*'Could not get lock'*) echo 'waiting for another installation'; sleep 10 ;;
		*) return 1 ;;
		esac
	done
}

command -v apt-get >/dev/null || { echo 'the machine has no apt-get' >&2; exit 3; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

apt --fix-broken install # completes an interrupted installation
if ! command -v docker >/dev/null; then
	echo 'installing Docker'
	apt update
	apt install --no-install-recommends docker.io
	command -v docker >/dev/null || apt install --no-install-recommends docker-cli # Debian 13 has it by itself
fi
if [ "$1" = gpus ] && ! command -v nvidia-ctk >/dev/null; then
	echo "installing NVIDIA's container toolkit"
	apt install --no-install-recommends ca-certificates curl
	curl -fsSL --retry 3 -o "$scratch/key" https://nvidia.github.io/libnvidia-container/gpgkey
	key=/usr/share/keyrings/nvidia-container-toolkit-keyring.asc
	echo "deb [signed-by=$key] https://nvidia.github.io/libnvidia-container/stable/deb/\$(ARCH) /" >"$scratch/list"
	install -m 644 "$scratch/key" "$key"
	install -m 644 "$scratch/list" /etc/apt/sources.list.d/nvidia-container-toolkit.list
	apt update
	apt install --no-install-recommends nvidia-container-toolkit
fi
[ "$1" != gpus ] || nvidia-ctk runtime configure --runtime=docker
systemctl restart docker
exit # the script's connection stays open
