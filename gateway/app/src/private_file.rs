//! Whether a file of secrets is closed to everybody but those it is for.
//!
//! A file that belongs to this process is its own alone (0600). One that belongs to root may also be
//! read, and only read, by one group (0640): whoever runs the machine has chosen that group. It is
//! how Kubernetes mounts a Secret for a pod with an `fsGroup`, and how Debian gives keys to services.
//! Knows nothing of access lists beyond the mode.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Bits that let somebody else than the owner in.
const NOT_THE_OWNERS: u32 = 0o077;

/// What nobody but root may do with a file of root's: its group may read it.
const NOT_EVEN_THE_GROUPS: u32 = 0o037;

/// The user id of root.
const ROOT: u32 = 0;

/// What to tell whoever has left such a file open.
pub(crate) const HOW_TO_CLOSE: &str = "allow it to its owner alone (0600), or let it belong to root and be read by the gateway's group (0640)";

/// Whether others can use the file that `met` is about.
pub(crate) fn is_open_to_others(met: &Metadata) -> bool {
    is_open(met.mode(), met.uid(), rustix::process::geteuid().as_raw())
}

fn is_open(mode: u32, owner: u32, process: u32) -> bool {
    let forbidden = if owner == ROOT && process != ROOT {
        NOT_EVEN_THE_GROUPS
    } else {
        NOT_THE_OWNERS
    };
    mode & forbidden != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_unless_root_lets_one_group_read_it() {
        let (us, somebody) = (65_532, 1_000);
        for (mode, owner, process, open) in [
            (0o600, us, us, false),
            (0o400, us, us, false),
            (0o640, us, us, true),
            (0o604, us, us, true),
            (0o640, somebody, us, true),
            // A Secret in a pod with an fsGroup, and the same with a mode of its own.
            (0o440, ROOT, us, false),
            (0o640, ROOT, us, false),
            (0o400, ROOT, us, false),
            (0o444, ROOT, us, true),
            (0o644, ROOT, us, true),
            (0o660, ROOT, us, true),
            (0o641, ROOT, us, true),
            (0o650, ROOT, us, true),
            // Root's own files are like anybody's own.
            (0o600, ROOT, ROOT, false),
            (0o640, ROOT, ROOT, true),
        ] {
            let found = is_open(0o100_000 | mode, owner, process);
            assert_eq!(found, open, "{mode:o} of {owner} seen by {process}");
        }
    }
}
