//! Partitions of records as a gateway leaves them behind, without running one.
//!
//! Writes with the same functions of names, chains and checkpoints, line by line, so that what
//! reads, checks or copies records can be tested by itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tollgate_core::audit::{
    AuditKey, Day, FIRST_PREV_HASH, Form, Item, Name, Partition, line_hash, write_line,
};
use tollgate_core::identity::new_private_key;
use tollgate_core::ids::ReplicaId;
use tollgate_core::record::{Ending, Subject};

use crate::contract::name;

/// The chains of one data directory, as one replica writes them.
pub struct Partitions {
    dir: PathBuf,
    replica: ReplicaId,
    /// What checkpoints are signed with.
    pub key: AuditKey,
    chains: BTreeMap<Partition, Chain>,
}

struct Chain {
    seq: u64,
    hash: String,
    open: BTreeMap<Day, Name>,
}

impl Partitions {
    /// Writes below `dir`, which holds or will hold `audit/`.
    #[must_use]
    pub fn new(dir: &Path, replica: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            replica: name(replica),
            key: AuditKey::from_pem(&new_private_key(&[7; 32])).expect("a key"),
            chains: BTreeMap::new(),
        }
    }

    /// Writes the record of a call into its tenant's segment, or into an object of its own if it
    /// is elevated.
    pub fn call(&mut self, subject: &Subject, ending: &Ending) -> Name {
        let parts = [json(subject), json(ending)];
        let partition = Partition::Tenant(subject.tenant.clone());
        let day = subject.started_at.date();
        let object = subject.elevated.then(|| Item::Object {
            day,
            agent: subject.agent.clone(),
            record: subject.id,
        });
        self.line(partition, day, object, &[&parts[0], &parts[1]])
    }

    /// Writes another event, which states its record id itself.
    pub fn event(&mut self, partition: Partition, day: Day, event: &impl Serialize) -> Name {
        let part = json(event);
        self.line(partition, day, None, &[&part])
    }

    fn line(
        &mut self,
        partition: Partition,
        day: Day,
        object: Option<Item>,
        parts: &[&[u8]],
    ) -> Name {
        let chain = self
            .chains
            .entry(partition.clone())
            .or_insert_with(|| Chain {
                seq: 0,
                hash: FIRST_PREV_HASH.to_owned(),
                open: BTreeMap::new(),
            });
        chain.seq += 1;
        let mut line = Vec::new();
        write_line(&mut line, &self.replica, chain.seq, &chain.hash, parts);
        chain.hash = line_hash(&line);
        let place = match object {
            Some(object) => Name::new(partition, object),
            None => {
                let item = Item::Segment {
                    day,
                    replica: self.replica.clone(),
                    first: chain.seq,
                    form: Form::JsonLines,
                };
                let new = Name::new(partition, item);
                chain.open.entry(day).or_insert(new).clone()
            }
        };
        line.push(b'\n');
        let path = self.dir.join(place.to_string());
        fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
        let file = fs::File::options().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(&line))
            .expect("writable");
        place
    }

    /// Ends a partition's segments and signs what it holds.
    pub fn seal(&mut self, partition: &Partition) -> Name {
        let chain = self.chains.get_mut(partition).expect("records");
        chain.open.clear();
        let checkpoint = self.key.checkpoint(
            partition.clone(),
            self.replica.clone(),
            chain.seq,
            chain.hash.clone(),
            crate::contract::now(),
        );
        let item = Item::Checkpoint {
            replica: self.replica.clone(),
            seq: chain.seq,
        };
        let place = Name::new(partition.clone(), item);
        let path = self.dir.join(place.to_string());
        fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
        let mut line = json(&checkpoint);
        line.push(b'\n');
        fs::write(path, line).expect("writable");
        place
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}
