use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tollgate_core::audit::Form;

use super::*;
use crate::forms;
use crate::lines::Lines;

const PLACES: [&str; 8] = [
    "audit/acme/2026/11/18/bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json",
    "audit/acme/2026/12/01/bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5c.json",
    "audit/acme/checkpoints/r1-000000000003.json",
    "audit/acme/date=2026-11-18/r1-000000000001.parquet",
    "audit/acme/date=2026-11-18/notes.txt",
    "audit/acme/date=2026-11-19/r1-000000000002~1.jsonl.zst",
    "audit/_operator/date=2026-11-18/r1-000000000001.jsonl",
    "audit/globex/date=2026-11-18/r1-000000000001.jsonl",
];

fn shelf(prefix: &str) -> ObjectShelf {
    let objects = Objects {
        store: Arc::new(InMemory::new()),
        prefix: Path::from(prefix),
    };
    let shelf = ObjectShelf::new(objects.clone()).expect("a shelf");
    for path in PLACES {
        let form = path.parse::<Name>().ok().map(|name| name.item);
        let form = match form {
            Some(tollgate_core::audit::Item::Segment { form, .. }) => form,
            _ => Form::JsonLines,
        };
        let bytes = forms::encode(form, &b"{\"a\":1}\n{\"b\":2}\n"[..]).expect("encodes");
        let path = objects.path(path);
        let put = objects.store.put(&path, PutPayload::from(bytes));
        shelf.handle.block_on(put).expect("stored");
    }
    shelf
}

fn found(shelf: &ObjectShelf, days: Days) -> Vec<String> {
    let mut found = Vec::new();
    let acme = "acme".parse().expect("a partition");
    let each = shelf.each(&acme, days, &mut |one| {
        found.push(match one {
            Found::Ours { name, bytes } => {
                assert!(bytes > 0);
                name.to_string()
            }
            Found::Foreign(path) => format!("foreign {path}"),
        });
        Ok(())
    });
    each.expect("readable");
    found.sort_unstable();
    found
}

#[test]
fn a_store_shows_one_partition_by_day_and_tells_what_is_foreign() {
    for prefix in ["", "some/prefix"] {
        let shelf = shelf(prefix);
        let partitions = shelf.partitions().expect("readable");
        let partitions: Vec<_> = partitions.iter().map(Partition::as_str).collect();
        assert_eq!(partitions, ["_operator", "acme", "globex"]);
        let foreign = format!("foreign {}", PLACES[4]);
        let all = [
            PLACES[0], PLACES[1], PLACES[2], PLACES[3], PLACES[5], &foreign,
        ];
        assert_eq!(found(&shelf, Days::default()), all);
        let day = |text: &str| text.parse().ok();
        let eighteenth = Days {
            from: day("2026-11-18"),
            to: day("2026-11-18"),
        };
        let of_the_day = [PLACES[0], PLACES[2], PLACES[3], &foreign];
        assert_eq!(found(&shelf, eighteenth), of_the_day);
        let later = Days {
            from: day("2026-11-19"),
            to: None,
        };
        assert_eq!(found(&shelf, later), [PLACES[1], PLACES[2], PLACES[5]]);
    }
}

#[test]
fn what_lies_in_a_store_is_read_line_by_line_in_whatever_form() {
    let shelf = shelf("records");
    for path in PLACES.iter().filter(|path| !path.ends_with(".txt")) {
        let name = path.parse().expect("a name");
        let mut lines = Lines::open(&shelf, &name).expect("readable");
        assert_eq!(
            lines.next_line().expect("a line"),
            Some((1, &b"{\"a\":1}"[..]))
        );
        assert_eq!(
            lines.next_line().expect("a line"),
            Some((2, &b"{\"b\":2}"[..]))
        );
        assert_eq!(lines.next_line().expect("the end"), None);
    }
    let missing = "audit/acme/checkpoints/r1-000000000009.json"
        .parse()
        .expect("a name");
    let error = shelf.open(&missing).err().expect("missing");
    assert_eq!(error.cause.kind(), io::ErrorKind::NotFound);
}
