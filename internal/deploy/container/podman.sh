# Prints what Podman's API doesn't: the CDI devices for GPUs, according to NVIDIA's toolkit and to the files that Podman reads, and
# whether a service starts containers after a boot. A rootless Podman has a service of the user's.
#
#   WAY     the first word of the command that reaches Podman
nvidia-ctk cdi list 2>/dev/null
grep -hos 'nvidia\.com/gpu' /etc/cdi/* /var/run/cdi/*
scope=--system
[ "$1" = sudo ] || [ "$(id -u)" = 0 ] || scope=--user
systemctl "$scope" --quiet is-enabled podman-restart.service >/dev/null 2>&1 && echo starts at boot
exit 0
