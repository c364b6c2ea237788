//! Addresses and open files: whether what is to listen can, who can reach it, and for how many.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::finding::{Area, Finding};
use crate::config::Settings;

const AREA: Area = Area("listeners");

/// How long a connection to this machine may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Somebody answers.
    Answers,
    /// Nobody does, and it can be taken.
    Free,
    /// It cannot be taken, and nobody answers.
    Unusable,
    /// The system chooses it, so nothing is known.
    Chosen,
}

pub(super) struct Facts {
    /// Whether a gateway runs on the data directory.
    pub(super) running: bool,
    pub(super) ports: Vec<(SocketAddr, Port)>,
    pub(super) tls: bool,
    pub(super) admin: SocketAddr,
    /// How many files a process started from here may have open at most.
    pub(super) files: u64,
    /// Connections of clients that the settings allow.
    pub(super) connections: u64,
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (address, port) in &facts.ports {
        found.push(match (port, facts.running) {
            (Port::Chosen, _) => AREA.ok(format!("the system chooses the port of {address}")),
            (Port::Answers, true) => AREA.ok(format!("{address} answers")),
            (Port::Free, false) => AREA.ok(format!("{address} is free")),
            (Port::Answers, false) => AREA.problem(
                format!("somebody answers at {address}, and no gateway runs on this data directory"),
                "stop whoever that is (ss -ltnp), or change `listen` or `admin_listen`; or name the directory of the gateway that runs with --data",
            ),
            (Port::Free | Port::Unusable, true) => AREA.problem(
                format!("a gateway runs, and nobody answers at {address}"),
                "it was started with other settings, or drains: compare with `tollgate check --settings`, and restart it",
            ),
            (Port::Unusable, false) => AREA.problem(
                format!("{address} cannot be listened on"),
                "no interface has it, or it is below 1024 and this user may not",
            ),
        });
        if !facts.tls && *address != facts.admin && !is_inner(address.ip()) {
            found.push(AREA.warning(
                format!("agents can reach {address} from other machines, without TLS"),
                "set [tls], or keep it inside a network where you trust the wires",
            ));
        }
    }
    if !is_inner(facts.admin.ip()) {
        found.push(AREA.warning(
            format!("the admin listener {} can be reached from other machines, in plain HTTP", facts.admin),
            "keep it behind a network policy or firewall that lets operators and Prometheus through alone",
        ));
    }
    let needed = facts.connections.saturating_mul(2);
    if facts.files < needed {
        found.push(AREA.warning(
            format!("a process started from here may open {} files, and {} connections take {needed} and more", facts.files, facts.connections),
            "raise the limit (LimitNOFILE= of the unit, ulimit -Hn), or lower `connections` in [limits]",
        ));
    } else {
        found.push(AREA.ok(format!("{} files may be open", facts.files)));
    }
    found
}

fn is_inner(address: IpAddr) -> bool {
    address.is_loopback()
}

/// Tries the addresses.
pub(super) fn look(settings: &Settings, running: bool) -> Facts {
    let all = settings.listen.iter().chain([&settings.admin_listen]);
    let tried = all.map(|address| (*address, try_out(*address)));
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Facts {
        running,
        ports: tried.collect(),
        tls: settings.tls.is_some(),
        admin: settings.admin_listen,
        files: files.maximum.unwrap_or(u64::MAX),
        connections: settings.limits.connections as u64,
    }
}

fn try_out(address: SocketAddr) -> Port {
    if address.port() == 0 {
        return Port::Chosen;
    }
    let mut reached = address;
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        };
        reached.set_ip(loopback);
    }
    if TcpStream::connect_timeout(&reached, PATIENCE).is_ok() {
        return Port::Answers;
    }
    TcpListener::bind(address).map_or(Port::Unusable, |_closed_at_once| Port::Free)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn an_address_is_judged_by_who_answers_and_who_can_reach_it() {
        let judged = |running, listen: &str, port, tls, files| {
            let facts = Facts {
                running,
                ports: vec![(listen.parse().unwrap(), port)],
                tls,
                admin: "127.0.0.1:9090".parse().unwrap(),
                files,
                connections: 100,
            };
            let bad = judge(&facts)
                .into_iter()
                .filter(|found| found.level != Level::Ok);
            bad.map(|found| (found.level, found.what))
                .collect::<Vec<_>>()
        };
        const INNER: &str = "127.0.0.1:8080";
        for (found, level, says) in [
            (
                judged(false, INNER, Port::Answers, false, 999),
                Level::Problem,
                "somebody answers",
            ),
            (
                judged(true, INNER, Port::Free, false, 999),
                Level::Problem,
                "nobody answers",
            ),
            (
                judged(false, INNER, Port::Unusable, false, 999),
                Level::Problem,
                "cannot be listened on",
            ),
            (
                judged(true, "0.0.0.0:80", Port::Answers, false, 999),
                Level::Warning,
                "without TLS",
            ),
            (
                judged(true, INNER, Port::Answers, false, 199),
                Level::Warning,
                "may open 199 files",
            ),
        ] {
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, level, "{found:?}");
            assert!(found[0].1.contains(says), "{found:?}");
        }
        assert!(judged(true, "0.0.0.0:80", Port::Answers, true, 999).is_empty());
        assert!(judged(false, INNER, Port::Free, false, 200).is_empty());
    }
}
