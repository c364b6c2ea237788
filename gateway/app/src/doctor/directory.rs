//! The data directory: whose it is, who else gets in, what it lies on, and whether there is room.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{statfs, statvfs};

use super::finding::{Area, Finding};

const AREA: Area = Area("data");

/// A file or directory that must be its owner's alone.
pub(super) struct Private {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) owner: u32,
}

/// What the directory is like.
pub(super) struct Facts {
    pub(super) path: String,
    /// Who asks.
    pub(super) user: u32,
    /// The directory and its keys.
    pub(super) private: Vec<Private>,
    pub(super) free_bytes: u64,
    pub(super) all_bytes: u64,
    pub(super) free_inodes: u64,
    pub(super) all_inodes: u64,
    /// The kind of file system, by its magic number.
    pub(super) kind: u64,
}

/// Below this, calls are refused before long.
const LEAST_BYTES: u64 = 256 << 20;
/// Below this share of all, somebody should look.
const LOW_PERCENT: u64 = 10;
const LEAST_INODES: u64 = 1_000;

/// Kinds of file systems (`statfs(2)`) that are no place for it, with what is wrong.
const KINDS: [(u64, &str, bool, &str); 8] = [
    (
        0x6969,
        "NFS",
        true,
        "it may lose what was synced and holds no locks for sure",
    ),
    (
        0xff53_4d42,
        "CIFS",
        true,
        "it may lose what was synced and holds no locks for sure",
    ),
    (
        0xfe53_4d42,
        "SMB",
        true,
        "it may lose what was synced and holds no locks for sure",
    ),
    (
        0x6573_5546,
        "FUSE",
        false,
        "whether it keeps what was synced is its own affair",
    ),
    (
        0x0102_1997,
        "9p",
        false,
        "whether it keeps what was synced is its own affair",
    ),
    (
        0x0102_1994,
        "tmpfs",
        false,
        "it is gone after a restart of the machine",
    ),
    (
        0x8584_58f6,
        "ramfs",
        false,
        "it is gone after a restart of the machine",
    ),
    (
        0x794c_7630,
        "overlay",
        false,
        "in a container it is gone with it",
    ),
];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { path, user, .. } = facts;
    let mut found = Vec::new();
    for Private { path, mode, owner } in &facts.private {
        if owner != user {
            found.push(AREA.problem(
                format!("{path} belongs to user {owner}, and this is user {user}"),
                format!("run commands as the gateway's user, or chown {path}"),
            ));
        } else if mode & 0o077 != 0 {
            let mode = mode & 0o777;
            found.push(AREA.problem(
                format!("others than its owner can use {path} ({mode:04o})"),
                format!("chmod go= {path}: whoever reads it can make tokens and read secrets"),
            ));
        }
    }
    if let Some((_, name, bad, why)) = KINDS.iter().find(|(kind, ..)| *kind == facts.kind) {
        let what = format!("{path} lies on {name}");
        let advice = format!("use a local disk or a volume: {why}");
        found.push(if *bad {
            AREA.problem(what, advice)
        } else {
            AREA.warning(what, advice)
        });
    }
    let mib = facts.free_bytes >> 20;
    let room =
        "make room, have records copied and purged (docs/records.md), or move it to a larger disk";
    if facts.free_bytes < LEAST_BYTES {
        let what =
            format!("{mib} MiB are free below {path}: calls are refused once there are none");
        found.push(AREA.problem(what, room));
    } else if facts.free_bytes / LOW_PERCENT.max(1) < facts.all_bytes / 100 {
        found.push(AREA.warning(
            format!("less than {LOW_PERCENT}% are free below {path} ({mib} MiB)"),
            room,
        ));
    }
    if facts.all_inodes > 0 && facts.free_inodes < LEAST_INODES {
        let what = format!("{} files can still be made below {path}", facts.free_inodes);
        found.push(AREA.problem(what, room));
    }
    if found.is_empty() {
        found.push(AREA.ok(format!("{path} is its owner's alone, {mib} MiB free")));
    }
    found
}

/// Looks at the directory; where it cannot be looked at, says so instead.
pub(super) fn look(path: &Path) -> Result<Facts, Finding> {
    let shown = path.display();
    if let Err(error) = fs::read_dir(path) {
        return Err(match error.kind() {
            ErrorKind::NotFound => AREA.warning(
                format!("{shown} is not there: no gateway has been started on it"),
                "start one with `tollgate serve`, or name the directory with --data",
            ),
            _ => AREA.problem(
                format!("{shown} cannot be looked into: {error}"),
                "run this as the gateway's user",
            ),
        });
    }
    let mut private = vec![path.to_owned(), path.join("keys")];
    for dir in [path.join("keys"), path.join("keys/vault")] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let secret = |name: &std::ffi::OsStr| {
            let name = name.to_string_lossy();
            [".pem", ".key", ".json", ".token"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        private.extend(
            entries
                .filter(|entry| secret(&entry.file_name()))
                .map(|entry| entry.path()),
        );
    }
    private.sort();
    let private = private.iter().filter_map(|path| {
        let met = fs::metadata(path).ok()?;
        Some(Private {
            path: path.display().to_string(),
            mode: met.mode(),
            owner: met.uid(),
        })
    });
    let failed = |error: rustix::io::Errno| {
        AREA.problem(format!("{shown} cannot be looked at: {error}"), "")
    };
    let space = statvfs(path).map_err(failed)?;
    // Types differ between architectures; the number fits into 32 bits on all of them.
    let kind =
        u64::from(u32::try_from(statfs(path).map_err(failed)?.f_type & 0xffff_ffff).unwrap_or(0));
    Ok(Facts {
        path: shown.to_string(),
        user: rustix::process::geteuid().as_raw(),
        private: private.collect(),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        all_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        free_inodes: space.f_favail,
        all_inodes: space.f_files,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> Facts {
        Facts {
            path: "/data".to_owned(),
            user: 7,
            private: vec![Private {
                path: "/data/keys/issuer.pem".to_owned(),
                mode: 0o100_600,
                owner: 7,
            }],
            free_bytes: 50 << 30,
            all_bytes: 100 << 30,
            free_inodes: 1_000_000,
            all_inodes: 2_000_000,
            kind: 0xef53,
        }
    }

    #[test]
    fn a_directory_that_others_enter_or_that_is_full_or_forgets_is_told_with_what_to_do() {
        let changed = |change: fn(&mut Facts)| {
            let mut facts = facts();
            change(&mut facts);
            judge(&facts)
        };
        for (found, level, says) in [
            (changed(|_| {}), Level::Ok, "51200 MiB free"),
            (
                changed(|it| it.private[0].mode = 0o100_640),
                Level::Problem,
                "issuer.pem (0640)",
            ),
            (
                changed(|it| it.private[0].owner = 0),
                Level::Problem,
                "belongs to user 0",
            ),
            (
                changed(|it| it.free_bytes = 1 << 20),
                Level::Problem,
                "1 MiB are free",
            ),
            (
                changed(|it| it.free_bytes = 9 << 30),
                Level::Warning,
                "less than 10%",
            ),
            (
                changed(|it| it.free_inodes = 10),
                Level::Problem,
                "10 files can still be made",
            ),
            (
                changed(|it| (it.free_inodes, it.all_inodes) = (0, 0)),
                Level::Ok,
                "is its owner's alone",
            ),
            (
                changed(|it| it.kind = 0x6969),
                Level::Problem,
                "lies on NFS",
            ),
            (
                changed(|it| it.kind = 0x0102_1994),
                Level::Warning,
                "lies on tmpfs",
            ),
        ] {
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].level, level, "{found:?}");
            assert!(found[0].what.contains(says), "{found:?}");
            assert_eq!(found[0].advice.is_empty(), level == Level::Ok, "{found:?}");
        }
    }
}
