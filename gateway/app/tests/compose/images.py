"""What a Dockerfile makes, as far as it can be made without a registry: stages as layers and settings.

Stages on `scratch` get their files from `assemble.sh`, which is run as the build stage runs it, on the
programs under test. Debian's and other people's images are stood in for by this machine's own files,
which are Debian's too; their programs go by the names they have here.
"""

import json
import os
import re
import shlex
import shutil
import subprocess


#: Other people's images: what they start, their user, whose directories volumes take over, and names
#: of programs that differ here. None: not to be had here, so its settings are looked at and not run.
STAND_INS = {
    "valkey/valkey": dict(entrypoint=[], users={"valkey": (999, 1000)}, user=(999, 1000), owned=["/data"],
                          names={"valkey-server": "redis-server", "valkey-cli": "redis-cli"}),
    "prom/prometheus": dict(entrypoint=["prometheus"], users={}, user=(65534, 65534), owned=["/prometheus"],
                            names={"wget": "curl -sSfL"}),
    "curlimages/curl": dict(entrypoint=["curl"], users={}, user=(100, 101), owned=[], names={}),
    "grafana/grafana": None,
}

INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD", "LABEL", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "VOLUME"}


def instructions(text):
    """Each instruction of a Dockerfile, with what stands after it."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = re.sub(r"\\\n", " ", text)
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word not in INSTRUCTIONS:
            raise ValueError(f"the Dockerfile has an instruction that nothing here tests: {word}")
        yield word, rest.strip()


def stages(text):
    """The stages by name, each a list of instructions that begins with FROM."""
    found = {}
    for word, rest in instructions(text):
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            found[name] = stage = []
            rest = base
        stage.append((word, rest))
    return found


class Image:
    """What a container starts from."""

    def __init__(self, layers):
        self.layers, self.names, self.users, self.owned = layers, {}, {}, {}
        self.environment, self.user, self.entrypoint, self.command = {}, (0, 0), [], []
        self.health, self.stop_signal, self.exposes, self.volumes = None, "SIGTERM", set(), set()

    def user_of(self, text):
        """`user:` of a service, or USER: a name that the image has, or numbers."""
        if text in self.users:
            return self.users[text]
        user, group = text.split(":")
        return int(user), int(group)


def stand_in(reference):
    name, _, tag = reference.partition(":")
    if not re.search(r"\d+\.\d+\.\d+", tag):
        raise ValueError(f"{reference} is not pinned by version")
    known = STAND_INS[name]
    if known is None:
        return None
    image = Image(["/"])
    image.names, image.users, image.user, image.entrypoint = known["names"], known["users"], known["user"], known["entrypoint"]
    image.owned = {path: known["user"] for path in known["owned"]}
    image.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return image


class Builder:
    """Builds the final stages of one Dockerfile with the programs of a directory."""

    def __init__(self, repository, dockerfile, programs, work):
        self.repository, self.programs, self.work = repository, programs, work
        with open(os.path.join(repository, dockerfile)) as text:
            self.stages = stages(text.read())
        self.assembled = {}

    def image(self, target):
        stage = self.stages[target]
        base = stage[0][1]
        root = os.path.join(self.work, "image", target)
        os.makedirs(root)
        image = Image([root] if base == "scratch" else [root, "/"])
        image.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for word, rest in stage[1:]:
            getattr(self, "_" + word.lower())(image, root, rest)
        return image

    def _copy(self, image, root, rest):
        *flags, source, target = shlex.split(rest)
        if flags:
            (stage,) = flags
            source = self._built(stage.removeprefix("--from="), source)
        else:
            source = os.path.join(self.repository, source)
        target = root + target
        if os.path.isdir(source):
            # Layers are read only, so that files may be the same.
            subprocess.run(["cp", "-al", source + "/.", target], check=True)
        else:
            os.makedirs(target, exist_ok=True)
            shutil.copy(source, target)

    def _built(self, stage, path):
        """A path of the build stage: `/image/NAME/…`, which its own command assembles."""
        name = path.split("/")[2]
        if name not in self.assembled:
            run = " ".join(rest for word, rest in self.stages[stage] if word == "RUN")
            script, image, program = re.search(rf"sh (\S+) (/image/{name}) target/release/(\S+)", run).groups()
            into = os.path.join(self.work, "build") + image
            os.makedirs(into)
            subprocess.run(["sh", os.path.join(self.repository, script), into, os.path.join(self.programs, program)], check=True)
            self.assembled[name] = into
        return self.assembled[name] + path.removeprefix(f"/image/{name}")

    def _run(self, image, root, rest):
        # `install -d` with absolute paths is all that final stages run; here they lie under the root.
        subprocess.run(["sh", "-eu", "-c", re.sub(r" (/\S+)", rf" {root}\1", rest)], check=True)

    def _env(self, image, root, rest):
        image.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))

    def _user(self, image, root, rest):
        user, group = rest.split(":")
        if int(user) == 0:
            raise ValueError("an image runs as root")
        image.user = int(user), int(group)

    def _entrypoint(self, image, root, rest):
        image.entrypoint = json.loads(rest)

    def _cmd(self, image, root, rest):
        image.command = json.loads(rest)

    def _expose(self, image, root, rest):
        image.exposes |= {int(port) for port in rest.split()}

    def _volume(self, image, root, rest):
        image.volumes |= set(json.loads(rest))

    def _stopsignal(self, image, root, rest):
        image.stop_signal = rest

    def _label(self, image, root, rest):
        for pair in shlex.split(rest):
            name, value = pair.split("=", 1)
            if not name.startswith("org.opencontainers.image.") or not value:
                raise ValueError(f"the label {pair}")

    def _healthcheck(self, image, root, rest):
        options, command = rest.split(" CMD ", 1)
        options = dict(option.removeprefix("--").split("=") for option in options.split())
        image.health = dict(test=["CMD", *json.loads(command)], **{name.replace("-", "_"): value for name, value in options.items()})
