//! A name read from a store leads nowhere but into its own partition, and a line says the same to
//! the reader of chains as to any reader of JSON.

use std::path::{Component, Path};

use serde_json::Value;
use tollgate_core::audit::{Link, Name};

/// Input: a path, a line feed, and the line of a record.
pub fn record(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (path, line) = data.split_at(end);
    if let Ok(path) = str::from_utf8(path) {
        name(path);
    }
    link(line);
}

fn name(path: &str) {
    let Ok(name) = path.parse::<Name>() else {
        return;
    };
    assert_eq!(name.to_string(), path, "one place has two names");
    let within = format!("audit/{}/", name.partition);
    assert!(path.starts_with(&within), "it leads out of its partition");
    let parts = Path::new(path).components();
    let plain = |part| matches!(part, Component::Normal(_));
    assert!(parts.clone().all(plain), "it is no plain path");
    assert_eq!(parts.count(), path.split('/').count(), "it has empty parts");
    assert!(!path.contains(char::is_control));
}

fn link(line: &[u8]) {
    let Ok(link) = Link::parse(line) else {
        return;
    };
    // Members that nobody asks for are not decoded; half an escaped character passes there.
    let Ok(read) = serde_json::from_slice::<Value>(line) else {
        return;
    };
    assert_eq!(read["tollgate.seq"], link.seq);
    assert_eq!(read["tollgate.prev_hash"], *link.prev_hash);
    assert_eq!(read["tollgate.replica.id"], *link.replica.as_str());
    for (member, said) in [
        ("tenant.id", &link.tenant),
        ("gen_ai.agent.id", &link.agent),
        ("tollgate.event", &link.event),
    ] {
        assert_eq!(read[member].as_str(), said.as_deref(), "{member}");
    }
}
