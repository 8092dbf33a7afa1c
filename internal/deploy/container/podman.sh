# Prints what Podman's API doesn't tell: the CDI devices for GPUs, by NVIDIA's toolkit and by the descriptions where Podman
# looks for them, and whether its containers are started after a boot. A user's own Podman is started by a service of the
# user's.
#
#   WAY     the first word of the command that reaches Podman
nvidia-ctk cdi list 2>/dev/null
grep -hos 'nvidia\.com/gpu' /etc/cdi/* /var/run/cdi/*
scope=--system
[ "$1" = sudo ] || [ "$(id -u)" = 0 ] || scope=--user
systemctl "$scope" --quiet is-enabled podman-restart.service >/dev/null 2>&1 && echo starts at boot
exit 0
