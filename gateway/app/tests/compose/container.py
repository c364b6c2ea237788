"""A process as a container engine starts it: a network, a root and mounts of its own, no privileges.

Linux' own system calls and nothing else: network namespaces made by `ip`, an overlay whose lower layer
is the image, bind mounts for volumes. What is asked for and cannot be done is an error. Runs as root, in
a mount, network and process namespace of its own, so that nobody else sees it and nothing stays.
"""

import ctypes
import os
import resource
import shutil
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
DEVICES = ["null", "zero", "full", "random", "urandom"]


def call(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, options=None):
    encoded = [None if text is None else str(text).encode() for text in (source, target, kind, options)]
    call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


class Container:
    """What is to run, before and while it does."""

    def __init__(self, name, work):
        self.name, self.work = name, work
        self.layers = []        # directories, the uppermost first
        self.mounts = []        # (source, path inside, read only)
        self.tmpfs = []
        self.hosts = {}
        self.environment = {}
        self.user = (0, 0)
        self.read_only = self.no_capabilities = self.no_new_privileges = False
        self.nofile = None
        self.pid = self.process = None
        self.log = os.path.join(work, f"{name}.log")
        self.upper = os.path.join(work, "upper", name)
        self.root = os.path.join(work, "root", name)
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def join(self, bridge, number, address, gateway):
        outside, inside = f"v{number}", f"e{number}"
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.name)
        run("ip", "link", "set", outside, "master", bridge, "up")
        run("ip", "-n", self.name, "address", "add", f"{address}/24", "dev", inside)
        run("ip", "-n", self.name, "link", "set", inside, "up")
        if gateway and not subprocess.run(["ip", "-n", self.name, "route", "show", "default"], capture_output=True).stdout:
            run("ip", "-n", self.name, "route", "add", "default", "via", gateway)

    def prepare(self):
        """Lays the image's layers under one that is this container's own, and makes what mounts go to."""
        for directory in (self.upper, self.upper + ".work", self.root):
            os.makedirs(directory)
        layers = ":".join(self.layers)
        options = f"lowerdir={layers},upperdir={self.upper},workdir={self.upper}.work"
        mount("overlay", self.root, "overlay", 0, options)
        hosts = os.path.join(self.work, f"{self.name}.hosts")
        with open(hosts, "w") as written:
            written.write("127.0.0.1 localhost\n")
            written.writelines(f"{address} {host}\n" for host, addresses in self.hosts.items() for address in addresses)
        self.mounts.append((hosts, "/etc/hosts", True))
        # Mounts of directories come before those of what lies in them.
        self.mounts.sort(key=lambda mounted: mounted[1].count("/"))
        for directory in ["/proc", "/dev", "/sys", "/tmp", *self.tmpfs]:
            os.makedirs(self.root + directory, exist_ok=True)
        for source, path, _ in self.mounts:
            if os.path.isdir(source):
                os.makedirs(self.root + path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
                if not os.path.exists(self.root + path):
                    open(self.root + path, "x").close()

    def start(self, command):
        """Runs the command as this container's first process; its log is a file."""
        with open(self.log, "ab") as log:
            try:
                self.process = subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=self._enter_new,
                )
            except subprocess.SubprocessError as error:
                with open(self.log) as said:
                    raise OSError(f"{self.name} cannot be started: {said.read()}") from error
        self.pid = self.process.pid

    def execute(self, command, stdin=b""):
        """Runs a command beside the first process, in the same place and as the same user."""
        place = [os.open(f"/proc/{self.pid}/{part}", os.O_RDONLY) for part in ("ns/net", "ns/mnt", "root")]
        try:
            return subprocess.run(
                command, env=self.environment, input=stdin, capture_output=True,
                preexec_fn=lambda: self._enter(place),
            )
        finally:
            for opened in place:
                os.close(opened)

    def stop(self, number, patience):
        """Asks the first process to end; how it ended."""
        self.process.send_signal(number)
        return self.process.wait(timeout=patience)

    def status(self, field):
        with open(f"/proc/{self.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))

    def _enter_new(self):
        try:
            namespace = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            call("setns", namespace, CLONE_NEWNET)
            call("unshare", CLONE_NEWNS)
            mount(None, "/", None, MS_REC | MS_PRIVATE)
            if self.read_only:
                mount(None, self.root, None, MS_REMOUNT | MS_RDONLY)
            for source, path, read_only in self.mounts:
                mount(source, self.root + path, None, MS_BIND)
                if read_only:
                    mount(None, self.root + path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
            for path in self.tmpfs:
                mount("tmpfs", self.root + path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
            mount("/proc", self.root + "/proc", None, MS_BIND | MS_REC)
            mount("tmpfs", self.root + "/dev", "tmpfs", MS_NOSUID, "mode=755")
            for device in DEVICES:
                open(f"{self.root}/dev/{device}", "x").close()
                mount(f"/dev/{device}", f"{self.root}/dev/{device}", None, MS_BIND)
            os.chroot(self.root)
            os.chdir("/")
            self._give_up()
        except BaseException as error:
            os.write(2, f"{error}\n".encode())
            raise

    def _enter(self, place):
        network, mounts, root = place
        call("setns", network, CLONE_NEWNET)
        call("setns", mounts, CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")
        self._give_up()

    def _give_up(self):
        if self.nofile:
            # More than this process may have itself it cannot give.
            most = min(self.nofile, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if self.no_capabilities:
            with open("/proc/sys/kernel/cap_last_cap") as last:
                for capability in range(int(last.read()) + 1):
                    call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        if self.no_new_privileges:
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(self.user[1], self.user[1], self.user[1])
        os.setresuid(self.user[0], self.user[0], self.user[0])


def copy_tree(source, target):
    """As a new volume takes over what the image has in its place."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    met = os.stat(source)
    os.chown(target, met.st_uid, met.st_gid)
    os.chmod(target, met.st_mode & 0o7777)
