# assemble.sh ROOT PROGRAM: the root file system of an image that runs PROGRAM and nothing else.
#
# The program, the shared libraries it names and the loader, the certificate authorities of the
# build's Debian, a user, and the directories that volumes go to. What a scanner needs to know about
# the libraries is in var/lib/dpkg/status.d, one file a package, as distroless images have it.
set -eu
root=$1 program=$2
name=$(basename "$program")

install -d "$root/etc/ssl/certs" "$root/usr/local/bin" "$root/var/lib/dpkg/status.d"
install -m 0755 "$program" "$root/usr/local/bin/$name"

# The libraries, where the loader looks for them.
libraries=$(ldd "$program" | sed -nE 's|.*[[:space:]](/[^[:space:]]+) \(0x[0-9a-f]+\)$|\1|p')
for library in $libraries; do
  install -D -m 0755 "$(readlink -f "$library")" "$root$library"
done

install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
install -m 0644 /etc/os-release "$root/etc/os-release"
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'tollgate:x:65532:65532:tollgate:/:/sbin/nologin' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'tollgate:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

for package in ca-certificates libc6 libgcc-s1; do
  dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/$package"
done

# A new volume takes owner and mode from what the image has in its place. Keys lie here.
install -d -m 0700 "$root/var/lib/tollgate" "$root/var/lib/tollgate-shared"
install -d -m 0755 "$root/var/lib/tollgate-valkey" "$root/etc/tollgate"
chown 65532:65532 "$root/var/lib/tollgate" "$root/var/lib/tollgate-shared" "$root/var/lib/tollgate-valkey"
