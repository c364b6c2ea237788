//! Which targets a run has: those that were named, as far as their programs are there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;

use super::figures::{Described, NGINX};
use super::peer::Peer;
use super::target::{DIRECT, Entry};
use super::tollgate::Variant;
use super::{Config, processors};

/// Stands for everything there is.
const ALL: &str = "all";
/// Plain reverse proxies, in the order of the tables: before the gateways.
const PROXIES: [&str; 2] = [NGINX, "haproxy"];

/// What is measured, and why the rest of what was named is not.
#[derive(Debug)]
pub(super) struct Choice {
    /// The mock first: everybody is compared with it.
    pub(super) entries: Vec<Entry>,
    pub(super) lacking: BTreeMap<String, String>,
}

impl Choice {
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let peers = Peer::all(&config.peers)?;
        let names = wanted(&config.targets, &peers)?;
        let mut choice = Self {
            entries: Vec::new(),
            lacking: BTreeMap::new(),
        };
        for name in names {
            let variant = Variant::ALL
                .into_iter()
                .find(|variant| variant.name() == name);
            let peer = peers.iter().find(|peer| peer.name == name);
            match (variant, peer) {
                (Some(variant), _) => choice.entries.push(Entry::Tollgate(variant)),
                (None, Some(peer)) => choice.add(peer, config),
                (None, None) => choice.entries.push(Entry::Direct),
            }
        }
        Ok(choice)
    }

    fn add(&mut self, peer: &Peer, config: &Config) {
        let given: Option<&PathBuf> = config.nginx.as_ref().filter(|_| peer.name == NGINX);
        let found = match given {
            Some(program) => Ok(program.clone()),
            None => peer.find(&config.installed),
        };
        match found {
            Ok(program) => self.entries.push(Entry::Peer {
                peer: Box::new(peer.clone()),
                program,
            }),
            Err(reason) => {
                self.lacking.insert(peer.name.clone(), reason);
            }
        }
    }

    /// What a target is, for whoever reads the figures.
    pub(super) fn describe(&self, entry: &Entry, config: &Config) -> Described {
        let unbound = Described {
            name: entry.name().to_owned(),
            about: String::new(),
            licence: None,
            version: None,
            processors: processors(),
            connections_at_most: None,
        };
        match entry {
            Entry::Direct => Described {
                about: "the mock provider, asked directly; one thread".to_owned(),
                processors: 1,
                ..unbound
            },
            Entry::Tollgate(variant) => Described {
                about: variant.about().to_owned(),
                ..unbound
            },
            Entry::Peer { peer, program } => Described {
                about: peer.about.clone(),
                licence: Some(peer.licence.clone()),
                version: peer.version(program, &config.installed),
                processors: peer.processors.unwrap_or_else(processors),
                connections_at_most: peer.connections,
                ..unbound
            },
        }
    }
}

/// The names of what is measured, in order and each once; the mock is always among them.
fn wanted(asked: &[String], peers: &[Peer]) -> anyhow::Result<Vec<String>> {
    let is_there = |name: &&str| peers.iter().any(|peer| peer.name == *name);
    let gateways = peers.iter().map(|peer| peer.name.as_str());
    let mut known = vec![DIRECT];
    known.extend(PROXIES.into_iter().filter(is_there));
    known.extend(Variant::ALL.map(Variant::name));
    known.extend(gateways.filter(|name| !PROXIES.contains(name)));
    for name in asked {
        ensure!(
            name == ALL || known.contains(&name.as_str()),
            "there is no target {name:?}; there are {}",
            known.join(", ")
        );
    }
    let everything = asked.iter().any(|name| name == ALL);
    let is_wanted = |name: &&str| *name == DIRECT || everything || asked.iter().any(|a| a == name);
    let names = known.into_iter().filter(is_wanted);
    Ok(names.map(str::to_owned).collect())
}
