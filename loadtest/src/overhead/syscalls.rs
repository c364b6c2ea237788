//! System calls of a program under strace, counted while it runs.
//!
//! Only those that calls make of themselves: on TCP connections, and what is written to files. How
//! often threads wake one another and how often files are looked at depends on time and chance. What
//! goes to stderr is left out too: lines are gathered for a while.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;

/// Where strace writes, one line for each system call.
#[derive(Debug)]
pub(super) struct Syscalls {
    out: PathBuf,
}

impl Syscalls {
    pub(super) fn new(out: PathBuf) -> Self {
        Self { out }
    }

    /// What a program is started under.
    pub(super) fn tracer(&self) -> Vec<String> {
        // Descriptors with what they are.
        let options = [
            "strace",
            "-f",
            "-yy",
            "-s",
            "0",
            "-e",
            "trace=%network,%desc",
        ];
        let mut tracer: Vec<String> = options.map(String::from).into();
        tracer.extend(["-o".to_owned(), self.out.display().to_string()]);
        tracer
    }

    /// What there has been so far, by name.
    pub(super) fn so_far(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let text = std::fs::read_to_string(&self.out).context("strace wrote nothing")?;
        Ok(count(&text))
    }
}

fn count(text: &str) -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for name in text.lines().filter_map(counted) {
        *by_name.entry(name.to_owned()).or_insert(0) += 1;
    }
    by_name
}

/// The name of a system call that counts. One that another thread came between has two lines: the second
/// one begins with `<...` and counts for nothing.
fn counted(line: &str) -> Option<&str> {
    let (_process, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    if name.contains(' ') {
        return None;
    }
    let (descriptor, what) = arguments.split_once('<')?;
    let is_connection = what.starts_with("TCP");
    let is_written = what.starts_with('/') && WRITING.contains(&name);
    let counts = descriptor != STDERR && (is_connection || is_written);
    counts.then_some(name)
}

/// Of files, what is written and what waits for a disk.
const WRITING: [&str; 6] = [
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "fsync",
    "fdatasync",
];
const STDERR: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_does_to_connections_and_files_is_counted_once() {
        let text = "\
            7 recvfrom(21<TCP:[127.0.0.1:40117->127.0.0.1:33550]>, \"\"..., 8192, 0, NULL, NULL) = 2367\n\
            8 writev(22<TCP:[127.0.0.1:41502->127.0.0.1:43059]>, [{...}, {...}], 2 <unfinished ...>\n\
            9 write(12</data/journal/1.log>, \"\"..., 312) = 312\n\
            8 <... writev resumed>)             = 2367\n\
            8 <... accept4 resumed>{sin_port=htons(4711)}, [128 => 16]) = 9<TCP:[127.0.0.1:1->127.0.0.1:2]>\n\
            9 fdatasync(12</data/journal/1.log>) = 0\n";
        let counted = [
            ("fdatasync", 1),
            ("recvfrom", 1),
            ("write", 1),
            ("writev", 1),
        ];
        let counted = counted.map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(count(text), BTreeMap::from(counted));
    }

    #[test]
    fn wake_ups_looks_at_files_and_log_lines_are_not_counted() {
        let text = "\
            7 write(5<anon_inode:[eventfd]>, \"\"..., 8) = 8\n\
            7 recvfrom(9<UNIX-STREAM:[1138->1139]>, \"\"..., 1, 0, NULL, NULL) = 1\n\
            7 epoll_wait(4<anon_inode:[eventpoll]>, [], 1024, 0) = 0\n\
            8 read(6</policies/gateway.toml>, \"\"..., 4096) = 59\n\
            8 write(2</log>, \"\"..., 400) = 400\n\
            8 +++ exited with 0 +++\n";
        assert_eq!(count(text), BTreeMap::new());
    }
}
