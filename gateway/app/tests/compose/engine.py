"""engine.py REPOSITORY PROGRAMS WORK: a container engine for docker-compose.yml and nothing else.

It starts the same processes with the same settings: the command, user, environment, files, volumes, ports
and networks of each service, in namespaces of its own, and knows no other network than those in the file.
A key, value or command that it does not implement is an error, so nothing in the file goes untested.

Scripts come in as JSON lines on standard input; each is run by bash, with a `docker` on its path that is
this engine, and answered by a JSON line on standard output. Everything ends when the input does.
"""

import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback

import yaml

from container import Container, copy_tree, mount, run
from images import Builder, stand_in

#: How long anything may take that a machine with much else to do can do late.
PATIENCE = 60
#: Settings that are about the engine's own ways, with the one value that is looked for.
STATED = {"restart": {"unless-stopped", "no"}}


class Refused(Exception):
    """The file or a command asks for what is not implemented."""


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def size(text):
    number, unit = re.fullmatch(r"(\d+)([mg])", text).groups()
    return int(number) << {"m": 20, "g": 30}[unit]


def taken(table, name, default=None):
    return table.pop(name, default)


def all_taken(what, table):
    if table:
        raise Refused(f"{what}: nothing here tests {sorted(table)}")


class Engine:
    """One file, up or down."""

    def __init__(self, repository, programs, work):
        self.repository, self.work = repository, work
        with open(os.path.join(repository, "docker-compose.yml")) as text:
            file = yaml.safe_load(text)
        self.project = taken(file, "name")
        self.services, self.networks, self.volumes = (taken(file, name) for name in ("services", "networks", "volumes"))
        all_taken("docker-compose.yml", {name: value for name, value in file.items() if not name.startswith("x-")})
        self.builders, self.programs, self.images, self.running, self.forwards = {}, programs, {}, {}, []
        self.veths = 0
        self.addresses = {}     # network -> service -> address
        self.aliases = {}       # network -> name -> addresses
        for number, (name, network) in enumerate(self.networks.items()):
            self._network(number, name, dict(network or {}))
        for volume, settings in self.volumes.items():
            all_taken(f"volume {volume}", settings or {})

    def _network(self, number, name, network):
        config = (taken(network, "ipam") or {"config": [{"subnet": f"10.213.{100 + number}.0/24"}]})["config"]
        (config,) = config
        config = dict(config)
        subnet = ipaddress.ip_network(taken(config, "subnet"))
        free = ipaddress.ip_network(taken(config, "ip_range", str(subnet)))
        all_taken(f"addresses of {name}", config)
        gateway = str(next(subnet.hosts()))
        hosts = (host for host in free.hosts() if str(host) != gateway)
        bridge = f"br{number}"
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "address", "add", f"{gateway}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        internal = taken(network, "internal", False)
        all_taken(f"network {name}", network)
        self.networks[name] = dict(bridge=bridge, internal=internal, gateway=gateway, hosts=hosts, subnet=subnet, free=free)
        self.addresses[name], self.aliases[name] = {}, {}

    # --- Commands ---------------------------------------------------------------------------------

    def docker(self, words, stdin):
        """One `docker …`: exit code, output, errors."""
        if words[:2] == ["compose", "--profile"]:
            return self._compose(words[3:], stdin, {words[2]})
        if words[:1] == ["compose"]:
            return self._compose(words[1:], stdin, set())
        if words[:2] == ["run", "--rm"]:
            return self._run(words[2:])
        raise Refused(f"docker {words}")

    def _compose(self, words, stdin, profiles):
        if words[0] == "up":
            if unknown := set(words[1:]) - {"--build", "--detach"}:
                raise Refused(f"up {unknown}")
            return self._up(profiles)
        if words[0] == "exec":
            if words[1] != "-T":
                raise Refused("exec without -T")
            return self._exec(words[2], words[3:], stdin)
        if words == ["down", "--volumes"]:
            return self._down()
        raise Refused(f"compose {words}")

    def _up(self, profiles):
        waiting = [name for name, service in self.services.items() if set(service.get("profiles", [])) <= profiles]
        while waiting:
            ready = [name for name in waiting if not set(self._needs(name)) & set(waiting)]
            for name in ready:
                waiting.remove(name)
                running = self.running.get(name)
                if running is None:
                    self._start(name)
                elif running["ended"] == 0:
                    # What has done its work is started once more.
                    running["container"].start(running["command"])
                    running["ended"] = None
                    self._completed(name)
        return 0, "", ""

    def _needs(self, name):
        return self.services[name].get("depends_on", {})

    def _exec(self, name, words, stdin):
        container, image = self.running[name]["container"], self.running[name]["image"]
        if (code := container.process.poll()) is not None:
            raise Refused(f"{name} has ended with {code}: {self._log(name)}")
        done = container.execute([*self._program(image, words)], stdin.encode())
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def _down(self):
        told = []
        for name, running in reversed(list(self.running.items())):
            if running["container"] is None or running["ended"] is not None:
                continue
            memory, threads = running["container"].status("VmHWM") << 10, running["container"].status("Threads")
            if memory > running["memory"] or threads > running["pids"]:
                raise Refused(f"{name}: {memory} bytes and {threads} threads are more than it is allowed")
            number = getattr(signal, running["image"].stop_signal)
            code = running["container"].stop(number, running["grace"])
            told.append(f"{name} {code}\n")
        self.running.clear()
        return 0, "".join(told), ""

    def _run(self, words):
        """`docker run --rm --network NETWORK IMAGE …`: a container of an agent, say."""
        network, name = words[1].removeprefix(self.project + "_"), f"run{self.veths}"
        if words[0] != "--network" or network not in self.networks:
            raise Refused(f"docker run {words}")
        image = stand_in(words[2])
        container = Container(name, self.work)
        self._join(container, network, {})
        container.hosts = {name: addresses for name, addresses in self.aliases[network].items()}
        container.layers, container.environment, container.user = image.layers, image.environment, image.user
        container.prepare()
        container.start([*image.entrypoint, *words[3:]])
        code = container.process.wait(timeout=PATIENCE)
        with open(container.log) as log:
            return code, log.read(), ""

    # --- Services ---------------------------------------------------------------------------------

    def _start(self, name):
        service = dict(self.services[name])
        taken(service, "profiles")
        self._wait(name, taken(service, "depends_on", {}))
        image = self._image(name, taken(service, "image"), taken(service, "build"))
        if image is None:
            self.running[name] = dict(container=None, image=None, ended=None)
            self._look_at(name, service)
            return
        container = Container(name, self.work)
        container.layers = image.layers
        user = taken(service, "user")
        container.user = image.user_of(user) if user else image.user
        container.environment = image.environment | taken(service, "environment", {})
        command = [*image.entrypoint, *taken(service, "command", image.command)]
        running = self._running(container, image, service)
        self._confine(name, container, service)
        self._connect(container, service)
        self._mount(container, image, taken(service, "volumes", []))
        container.tmpfs = taken(service, "tmpfs", [])
        ports = taken(service, "ports", [])
        all_taken(name, service)
        container.prepare()
        running["command"] = self._program(image, command)
        container.start(running["command"])
        self.running[name] = running
        self._publish(name, container, image, ports)

    def _running(self, container, image, service):
        health = taken(service, "healthcheck", image.health)
        if image.health and image.health["test"] != health["test"]:
            raise Refused(f"the image is asked otherwise than the service: {image.health['test']}")
        if health:
            health = dict(health)
            health = dict(test=taken(health, "test"), grace=self._grace(health))
        return dict(
            container=container, image=image, ended=None, health=health,
            memory=size(taken(service, "mem_limit", "256m")), pids=taken(service, "pids_limit", 64),
            grace=seconds(taken(service, "stop_grace_period", "10s")),
        )

    def _grace(self, health):
        """What the file gives it, and what a busy machine needs on top."""
        interval, timeout = seconds(taken(health, "interval")), seconds(taken(health, "timeout"))
        given = seconds(taken(health, "start_period", "0s")) + int(taken(health, "retries")) * (interval + timeout)
        all_taken("healthcheck", health)
        return given + PATIENCE

    def _wait(self, name, needs):
        for other, condition in needs.items():
            running = self.running[other]
            match condition:
                case {"condition": "service_completed_successfully"}:
                    self._completed(other)
                case {"condition": "service_healthy"}:
                    self._healthy(other, running)
                case _:
                    raise Refused(f"{name} waits for {condition}")

    def _completed(self, name):
        running = self.running[name]
        if running["ended"] is None:
            running["ended"] = running["container"].process.wait(timeout=PATIENCE)
        if running["ended"] != 0:
            raise Refused(f"{name} ended with {running['ended']}: {self._log(name)}")

    def _healthy(self, name, running):
        if running["container"] is None:
            return
        kind, *words = running["health"]["test"]
        if kind != "CMD":
            raise Refused(f"{name}: a health check by {kind}")
        deadline = time.monotonic() + running["health"]["grace"]
        while True:
            code, output, errors = self._exec(name, words, "")
            if code == 0:
                return
            if running["container"].process.poll() is not None or time.monotonic() > deadline:
                raise Refused(f"{name} is not well: {output}{errors}{self._log(name)}")
            time.sleep(0.1)

    def _log(self, name):
        with open(self.running[name]["container"].log) as log:
            return log.read()[-4000:]

    def _image(self, name, reference, build):
        if not build:
            return stand_in(reference)
        build = dict(build)
        context, dockerfile, target = (taken(build, key) for key in ("context", "dockerfile", "target"))
        all_taken(f"build of {name}", build)
        if reference not in self.images:
            repository = os.path.normpath(os.path.join(self.repository, context))
            if dockerfile not in self.builders:
                self.builders[dockerfile] = Builder(repository, dockerfile, self.programs, self.work)
            self.images[reference] = target, self.builders[dockerfile].image(target)
        built, image = self.images[reference]
        if built != target:
            raise Refused(f"{reference} is two targets")
        return image

    def _confine(self, name, container, service):
        container.read_only = taken(service, "read_only", False)
        container.no_capabilities = taken(service, "cap_drop") == ["ALL"]
        container.no_new_privileges = taken(service, "security_opt") == ["no-new-privileges:true"]
        if not (container.read_only and container.no_capabilities and container.no_new_privileges):
            raise Refused(f"{name} is not confined")
        container.nofile = taken(service, "ulimits", {"nofile": None})["nofile"]
        for setting, values in STATED.items():
            if (value := taken(service, setting)) not in values:
                raise Refused(f"{name}: {setting} is {value}")
        if taken(service, "logging") != {"driver": "local"}:
            raise Refused(f"{name} keeps its log without bounds")

    def _connect(self, container, service):
        if taken(service, "network_mode") == "none":
            return
        networks = taken(service, "networks")
        if isinstance(networks, list):
            networks = {network: {} for network in networks}
        for network, settings in networks.items():
            self._join(container, network, dict(settings))
        for network in networks:
            for host, addresses in self.aliases[network].items():
                container.hosts.setdefault(host, []).extend(addresses)

    def _join(self, container, name, settings):
        network = self.networks[name]
        address = taken(settings, "ipv4_address")
        if address is None:
            address = str(next(network["hosts"]))
        elif ipaddress.ip_address(address) not in network["subnet"] or ipaddress.ip_address(address) in network["free"]:
            raise Refused(f"{address} is not one that {name} has for those who state theirs")
        for host in {container.name, *taken(settings, "aliases", [])}:
            self.aliases[name].setdefault(host, []).append(address)
        all_taken(f"{container.name} in {name}", settings)
        self.addresses[name][container.name] = address
        self.veths += 1
        container.join(network["bridge"], self.veths, address, None if network["internal"] else network["gateway"])

    def _mount(self, container, image, volumes):
        places = set()
        for volume in volumes:
            source, path, *mode = volume.split(":")
            if mode not in ([], ["ro"]):
                raise Refused(f"{container.name}: {volume}")
            if source.startswith("./"):
                directory = os.path.join(self.repository, source)
                if mode != ["ro"] or not os.path.exists(directory):
                    raise Refused(f"{container.name}: {volume}")
            else:
                if source not in self.volumes:
                    raise Refused(f"{container.name}: no volume {source}")
                directory = os.path.join(self.work, "volume", source)
                if not os.path.exists(directory):
                    self._new_volume(image, path, directory)
            places.add(path)
            container.mounts.append((os.path.normpath(directory), path, bool(mode)))
        if lost := image.volumes - places:
            raise Refused(f"{container.name}: {lost} would be lost with the container")

    def _new_volume(self, image, path, directory):
        """Owner and content are those of the image's own directory."""
        if path in image.owned:
            os.makedirs(directory)
            os.chown(directory, *image.owned[path])
            return
        copy_tree(image.layers[0] + path, directory)

    def _publish(self, name, container, image, ports):
        for port in ports:
            host, outside, inside = port.split(":")
            if host != "127.0.0.1":
                raise Refused(f"{name}: {port} is open to other machines")
            if image.exposes and int(inside) not in image.exposes:
                raise Refused(f"{name}: the image does not expose {inside}")
            open_networks = [network for network, of in self.addresses.items() if name in of and not self.networks[network]["internal"]]
            if not open_networks:
                raise Refused(f"{name}: nothing is published from internal networks")
            address = self.addresses[open_networks[0]][name]
            forward = os.path.join(os.path.dirname(__file__), "forward.py")
            self.forwards.append(subprocess.Popen([sys.executable, forward, host, outside, address, inside]))

    def _program(self, image, words):
        """The words, with the name that the program has here."""
        first = image.names.get(words[0], words[0])
        if first.startswith("curl"):
            # busybox' wget -q -O - URL
            if words[1:-1] != ["-q", "-O", "-"]:
                raise Refused(f"wget {words}")
            return [*first.split(), words[-1]]
        return [first, *words[1:]]

    def _look_at(self, name, service):
        """What can be said of Grafana, whose program is not to be had here: its settings lead somewhere."""
        if name != "grafana":
            raise Refused(f"{name} is not run")
        for setting in taken(service, "environment"):
            if not re.fullmatch(r"GF_(AUTH|SECURITY|ANALYTICS)_[A-Z_]+", setting):
                raise Refused(f"{name}: {setting}")
        places = {}
        for volume in taken(service, "volumes"):
            source, path, *_ = volume.split(":")
            places[path] = os.path.join(self.repository, source)
            if source not in self.volumes and not os.path.exists(places[path]):
                raise Refused(f"{name}: {volume}")
        networks = set(taken(service, "networks"))
        for provision in self._provisions(places["/etc/grafana/provisioning/datasources"], "datasources"):
            host, port = re.fullmatch(r"http://([a-z-]+):(\d+)", provision["url"]).groups()
            if not networks & set(self.services[host]["networks"]) or not self.services[host]["ports"][0].endswith(port):
                raise Refused(f"{name}: {provision['url']} leads nowhere")
        for provision in self._provisions(places["/etc/grafana/provisioning/dashboards"], "providers"):
            if not [file for file in os.listdir(places[provision["options"]["path"]]) if file.endswith(".json")]:
                raise Refused(f"{name}: no dashboards in {provision['options']['path']}")
        if taken(service, "tmpfs") != ["/tmp"] or taken(service, "ports") != ["127.0.0.1:3000:3000"]:
            raise Refused(f"{name}: tmpfs or ports")
        self._confine(name, Settings(), service)
        self._running(None, Settings(), service)
        all_taken(name, service)

    def _provisions(self, directory, what):
        for file in os.listdir(directory):
            with open(os.path.join(directory, file)) as text:
                yield from yaml.safe_load(text)[what]


class Settings:
    """Where settings of what is not run go to."""

    health = None


def serve(engine, shim):
    """Runs each script that comes, and does what its `docker` asks meanwhile."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(engine.work, "docker.sock"))
    listener.listen()
    environment = dict(os.environ, PATH=f"{shim}:{os.environ['PATH']}", ENGINE=listener.getsockname())
    for line in sys.stdin:
        script = json.loads(line)
        with open(os.path.join(engine.work, "stdout"), "w+") as out, open(os.path.join(engine.work, "stderr"), "w+") as err:
            child = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script], cwd=engine.repository, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )
            while child.poll() is None:
                if select.select([listener], [], [], 0.01)[0]:
                    answer(engine, listener.accept()[0])
            out.seek(0)
            err.seek(0)
            told = dict(code=child.returncode, stdout=out.read(), stderr=err.read())
        print(json.dumps(told), flush=True)


def answer(engine, connection):
    with connection, connection.makefile("rw") as lines:
        asked = json.loads(lines.readline())
        try:
            code, output, errors = engine.docker(asked["words"], asked["stdin"])
        except Exception:
            code, output, errors = 125, "", traceback.format_exc()
        lines.write(json.dumps(dict(code=code, stdout=output, stderr=errors)))


def main():
    repository, programs, work = sys.argv[1:]
    # What is mounted and made here is seen by nobody else, and gone with the last process.
    mount(None, "/", None, 16384 | 1 << 18)
    mount("tmpfs", "/run", "tmpfs")
    os.makedirs("/run/netns")
    mount("tmpfs", work, "tmpfs", 0, "mode=755")
    run("ip", "link", "set", "lo", "up")
    shim = os.path.join(work, "bin")
    os.makedirs(shim)
    shutil.copy(os.path.join(os.path.dirname(__file__), "docker.py"), os.path.join(shim, "docker"))
    os.chmod(os.path.join(shim, "docker"), 0o755)
    serve(Engine(repository, programs, work), shim)


if __name__ == "__main__":
    main()
