# Makes this namespace a machine that systemd starts: the files of this one, below a layer of its own, and nothing of its
# services. Then becomes systemd.
#
# $1: an empty folder, where the layer is mounted. $2: the program. $3: where follow.sh and load.py are, and where the results go.
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount --bind "$3" "$root/mnt"
install -m 755 "$2" "$root/usr/local/bin/tproxy"
# A machine of its own, with none of the services of this one.
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
rm -rf "$root/etc/systemd/system"
mkdir "$root/etc/systemd/system"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\nWants=follow.service\n' \
    > "$root/etc/systemd/system/follow.target"
printf '[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/bin/bash /mnt/follow.sh\n' \
    > "$root/etc/systemd/system/follow.service"
ip link set lo up
systemd=/lib/systemd/systemd
export container=test
exec chroot "$root" "$systemd" --unit=follow.target --log-target=console --show-status=no
