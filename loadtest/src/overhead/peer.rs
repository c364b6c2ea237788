//! What else is measured, as files say: a directory for each, with a `peer.toml` in it.
//!
//! It knows how such a file is read and how a program is found and started, and nothing of any one of
//! them. In arguments, variables and templates these places are filled in: `{mock}`, the provider's
//! `IP:PORT`; `{port}`, a free one to listen on; `{dir}`, an empty directory; `{peer}`, the directory
//! with the `peer.toml`; `{installed}`, where `make bench-peers` installs; `{program}`, what was found.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::target::{Call, listening};
use crate::children::Running;

/// A `peer.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    /// The name of its directory.
    #[serde(skip)]
    pub(super) name: String,
    #[serde(skip)]
    directory: PathBuf,
    /// What is measured, in a line.
    pub(super) about: String,
    pub(super) licence: String,
    /// Where to have it from.
    get: String,
    /// The variable of the environment that says where the program is.
    variable: String,
    /// Where it is otherwise: paths, or names that are looked for in PATH.
    programs: Vec<String>,
    /// A file without which the program is of no use.
    needs: Option<String>,
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Files of its directory that are copied to `{dir}`, with places filled in.
    #[serde(default)]
    templates: Vec<String>,
    /// The command that prints its version.
    #[serde(default)]
    version: Vec<String>,
    #[serde(default)]
    ready: Ready,
    /// Connections at most, for those that make few calls a second.
    pub(super) connections: Option<usize>,
    /// The processors that it can use, where that is fewer than there are.
    pub(super) processors: Option<usize>,
    /// Whether thousands of open streams are measured too.
    #[serde(default)]
    pub(super) holds_streams: bool,
    pub(super) call: Call,
}

/// How it is seen where a program listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ready {
    /// It listens on `{port}`.
    #[default]
    Port,
    /// It chooses a port and prints one line of JSON with `listening` in it.
    Line,
}

/// Values for the places.
#[derive(Debug)]
struct Places {
    values: Vec<(&'static str, String)>,
}

impl Places {
    fn fill(&self, text: &str) -> String {
        self.values
            .iter()
            .fold(text.to_owned(), |text, (place, value)| {
                text.replace(place, value)
            })
    }
}

impl Peer {
    /// Every peer of a directory, in the order of their names.
    pub(super) fn all(directory: &Path) -> anyhow::Result<Vec<Self>> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("no peers in {} (see --peers)", directory.display()))?;
        let mut peers = Vec::new();
        for entry in entries {
            let directory = entry?.path();
            let file = directory.join("peer.toml");
            if file.exists() {
                let peer = Self::read(&directory, &fs::read_to_string(&file)?);
                peers.push(peer.with_context(|| file.display().to_string())?);
            }
        }
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(peers)
    }

    fn read(directory: &Path, text: &str) -> anyhow::Result<Self> {
        let mut peer: Self = toml::from_str(text)?;
        ensure!(!peer.programs.is_empty(), "no program is named");
        let name = directory.file_name().unwrap_or_default();
        peer.name = name.to_string_lossy().into_owned();
        peer.directory = std::path::absolute(directory)?;
        Ok(peer)
    }

    /// Where its program is, or what to say if it is nowhere.
    pub(super) fn find(&self, installed: &Path) -> Result<PathBuf, String> {
        let installed = std::path::absolute(installed).unwrap_or_default();
        let installed = installed.display().to_string();
        let said = std::env::var(&self.variable).ok().into_iter();
        let places = said.chain(self.programs.iter().cloned());
        let in_place = |text: &str| text.replace("{installed}", &installed);
        let mut places = places.map(|place| in_place(&place));
        let needs = self.needs.as_deref().map(in_place);
        let found = places
            .find_map(|place| in_path(Path::new(&place)))
            .filter(|_| needs.as_ref().is_none_or(|file| Path::new(file).is_file()));
        found.ok_or_else(|| {
            let needed = self.needs.iter().chain(self.programs.last()).next();
            let name = needed.map(Path::new).and_then(Path::file_name);
            let name = name.unwrap_or_default().to_string_lossy();
            let (variable, get) = (&self.variable, &self.get);
            format!("no program `{name}` found (have it from {get}, or set {variable})")
        })
    }

    /// The first line that its program says of its version.
    pub(super) fn version(&self, program: &Path, installed: &Path) -> Option<String> {
        let places = self.places(program, installed, None)?;
        let (program, arguments) = self.version.split_first()?;
        let arguments = arguments.iter().map(|argument| places.fill(argument));
        let mut command = Command::new(places.fill(program));
        let said = command.args(arguments).stdin(Stdio::null()).output().ok()?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let line = said
            .lines()
            .map(str::trim)
            .find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
        Some(line.to_owned())
    }

    /// Starts it in front of the mock; whether it answers yet is another question.
    pub(super) fn start(
        &self,
        program: &Path,
        installed: &Path,
        dir: &Path,
        mock: SocketAddr,
    ) -> anyhow::Result<(Running, SocketAddr)> {
        fs::create_dir_all(dir)?;
        // Few programs can tell a port that they chose themselves, so one is found and freed for it.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let places = self.places(program, installed, Some((dir, mock, addr)));
        let places = places.context("no places")?;
        for template in &self.templates {
            let text = fs::read_to_string(self.directory.join(template))
                .with_context(|| format!("{template} of {}", self.name))?;
            fs::write(dir.join(template), places.fill(&text))?;
        }
        let mut command = Command::new(program);
        command.args(self.arguments.iter().map(|argument| places.fill(argument)));
        for (name, value) in &self.environment {
            command.env(name, places.fill(value));
        }
        let log = fs::File::create(dir.join("stderr.log"))?;
        command.current_dir(dir).stderr(log);
        match self.ready {
            Ready::Port => {
                command.stdout(Stdio::null());
                let running = Running::start(self.name.clone(), &mut command)?;
                Ok((running, addr))
            }
            Ready::Line => {
                let (running, line) = Running::start_ready(self.name.clone(), &mut command)?;
                Ok((running, listening(&line)?))
            }
        }
    }

    fn places(
        &self,
        program: &Path,
        installed: &Path,
        running: Option<(&Path, SocketAddr, SocketAddr)>,
    ) -> Option<Places> {
        let text = |path: &Path| path.display().to_string();
        let mut values = vec![
            ("{program}", text(program)),
            ("{peer}", text(&self.directory)),
            ("{installed}", text(&std::path::absolute(installed).ok()?)),
        ];
        if let Some((dir, mock, addr)) = running {
            values.push(("{dir}", text(dir)));
            values.push(("{mock}", mock.to_string()));
            values.push(("{port}", addr.port().to_string()));
        }
        Some(Places { values })
    }
}

/// The file itself, or the one of this name in PATH.
fn in_path(place: &Path) -> Option<PathBuf> {
    if place.components().count() > 1 {
        return place.is_file().then(|| std::path::absolute(place).ok())?;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(place))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "about = \"a thing\"\nlicence = \"MIT\"\nget = \"a shop\"\nvariable = \"TOLLGATE_NO_SUCH_VARIABLE\"\n\
        programs = [\"{installed}/thing\", \"no-such-thing\"]\narguments = [\"--port\", \"{port}\"]\n\
        [call]\npath = \"/v1/chat/completions\"\n";

    #[test]
    fn a_file_without_a_program_or_with_a_word_too_many_is_refused() {
        let read = |text: &str| Peer::read(Path::new("peers/thing"), text);
        let peer = read(FILE).unwrap();
        assert_eq!((peer.name.as_str(), peer.ready), ("thing", Ready::Port));
        assert_eq!(peer.call.model, "gpt-4o-mini");
        let few = FILE.replace("[\"{installed}/thing\", \"no-such-thing\"]", "[]");
        assert!(read(&few).is_err());
        assert!(read(&format!("colour = \"red\"\n{FILE}")).is_err());
    }

    #[test]
    fn a_program_is_found_where_it_is_installed_and_missed_by_name() {
        let peer = Peer::read(Path::new("peers/thing"), FILE).unwrap();
        let installed = tempfile::tempdir().unwrap();
        let missed = peer.find(installed.path()).unwrap_err();
        assert!(
            missed.starts_with("no program `no-such-thing` found"),
            "{missed}"
        );
        let program = installed.path().join("thing");
        fs::write(&program, "").unwrap();
        assert_eq!(peer.find(installed.path()), Ok(program));
    }

    #[test]
    fn every_place_is_filled_in() {
        let peer = Peer::read(Path::new("/peers/thing"), FILE).unwrap();
        let addr = "127.0.0.1:7".parse().unwrap();
        let running = Some((Path::new("/dir"), addr, addr));
        let places = peer.places(Path::new("/bin/x"), Path::new("/i"), running);
        let filled = places
            .unwrap()
            .fill("{program} {peer} {installed} {dir} {mock} {port} {other}");
        assert_eq!(filled, "/bin/x /peers/thing /i /dir 127.0.0.1:7 7 {other}");
    }

    #[test]
    fn the_peers_of_this_repository_can_be_read() {
        let peers = Peer::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")).unwrap();
        assert!(peers.len() >= 8, "{} peers", peers.len());
        for peer in peers {
            for template in &peer.templates {
                assert!(
                    peer.directory.join(template).is_file(),
                    "{template} of {}",
                    peer.name
                );
            }
        }
    }
}
