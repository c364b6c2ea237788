//! Each way to tamper, at random places: every one is named, at the first bad record.

use tollgate_core::audit::{FIRST_PREV_HASH, line_hash};

use super::*;

const SEEDS: u64 = 24;

/// Tampers with one record that a checkpoint covers, and expects it to be the first that is named.
fn each_way(
    covered: u64,
    tamper: impl Fn(&Written, &Found, &mut Dice) -> Option<(u64, Vec<Kind>)>,
) {
    let mut tried = 0;
    for seed in 1..=SEEDS {
        let written = Written::new(seed % 10);
        let mut dice = Dice(seed * 7919);
        let records = written.records("acme");
        let eligible: Vec<Found> = records
            .into_iter()
            .filter(|found| found.seq <= covered)
            .collect();
        let found = dice.pick(&eligible).clone();
        let Some((first, kinds)) = tamper(&written, &found, &mut dice) else {
            continue;
        };
        tried += 1;
        let verified = written.verify("acme", None);
        let named = verified.findings.iter().find(|finding| {
            let replica = finding.replica.as_ref().map(ToString::to_string);
            replica.as_deref() == Some(&found.replica)
        });
        let shown = format!("seed {seed}, {found:?}: {:#?}", verified.findings);
        let named = named.unwrap_or_else(|| panic!("nothing was found: {shown}"));
        assert_eq!(named.seq, Some(first), "{shown}");
        assert!(kinds.contains(&named.kind), "{shown}");
        assert_eq!(written.verify("globex", None).findings, [], "{shown}");
    }
    assert!(tried > SEEDS / 3, "{tried} were enough to try");
}

fn rewrite(written: &Written, file: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = written.path(file);
    let mut text = lines(&fs::read(&path).expect("readable"));
    change(&mut text);
    if text.is_empty() {
        fs::remove_file(path).expect("removable");
    } else {
        write_lines(&path, &text);
    }
}

#[test]
fn an_edited_byte_is_named_at_its_record() {
    each_way(45, |written, found, dice| {
        rewrite(written, &found.file, |lines| {
            let line = &mut lines[found.line];
            let at = usize::try_from(dice.below(line.len() as u64)).expect("short");
            let new = loop {
                let new = u8::try_from(32 + dice.below(95)).expect("ASCII");
                if new != line[at] {
                    break new;
                }
            };
            line[at] = new;
        });
        let kinds = vec![Kind::Changed, Kind::OtherTenant, Kind::OtherChain];
        Some((found.seq, kinds))
    });
}

#[test]
fn a_removed_record_is_named() {
    each_way(45, |written, found, _| {
        rewrite(written, &found.file, |lines| {
            lines.remove(found.line);
        });
        Some((found.seq, vec![Kind::Removed]))
    });
}

#[test]
fn an_inserted_record_is_named() {
    each_way(45, |written, found, dice| {
        let text = fs::read(written.path(&found.file)).expect("readable");
        let line = String::from_utf8(lines(&text)[found.line].clone()).expect("text");
        let forged = line.replace("\"tollgate.cost_usd\":\"", "\"tollgate.cost_usd\":\"9");
        assert_ne!(line, forged);
        let forged = forged.replace(&found.id.to_string(), &record_id(9999).to_string());
        let file = if found.file.ends_with(".jsonl") {
            found.file.clone()
        } else {
            found
                .file
                .replace(&found.id.to_string(), &record_id(9999).to_string())
        };
        let at = usize::from(dice.below(2) == 0 || file != found.file);
        if file == found.file {
            rewrite(written, &file, |lines| {
                lines.insert(found.line + at, forged.into_bytes())
            });
        } else {
            write_lines(&written.path(&file), &[forged.into_bytes()]);
        }
        Some((found.seq, vec![Kind::Inserted]))
    });
}

#[test]
fn a_duplicated_record_is_named() {
    each_way(45, |written, found, dice| {
        duplicate(written, found, dice, |target| target == found.replica);
        let kinds = vec![Kind::Duplicated, Kind::Misplaced, Kind::Inserted];
        Some((found.seq, kinds))
    });
}

#[test]
fn a_record_duplicated_into_another_replicas_file_is_named() {
    for seed in 1..SEEDS {
        let written = Written::new(seed % 10);
        let mut dice = Dice(seed * 7919);
        let records = written.records("acme");
        let found = dice.pick(&records).clone();
        duplicate(&written, &found, &mut dice, |target| {
            target != found.replica
        });
        let shown = written.verify("acme", None).findings;
        assert_eq!(shown[0].kind, Kind::OtherChain, "{shown:#?}");
        assert_eq!(shown[0].record, Some(found.id));
    }
}

/// Writes a record once more, in front of one in a segment of a replica that fits.
fn duplicate(written: &Written, found: &Found, dice: &mut Dice, fits: impl Fn(&str) -> bool) {
    let mut targets = written.records("acme");
    targets.retain(|target| target.file.ends_with(".jsonl") && fits(&target.replica));
    let target = dice.pick(&targets);
    let text = fs::read(written.path(&found.file)).expect("readable");
    let line = lines(&text)[found.line].clone();
    rewrite(written, &target.file, |lines| {
        lines.insert(target.line, line)
    });
}

#[test]
fn two_records_that_changed_places_are_named_at_the_first() {
    each_way(45, |written, found, dice| {
        let records = written.records("acme");
        let others: Vec<Found> = records
            .into_iter()
            .filter(|other| {
                other.replica == found.replica && other.file == found.file && other.seq != found.seq
            })
            .collect();
        if others.is_empty() {
            return None;
        }
        let other = dice.pick(&others);
        rewrite(written, &found.file, |lines| {
            lines.swap(found.line, other.line)
        });
        Some((found.seq.min(other.seq), vec![Kind::Reordered]))
    });
}

#[test]
fn a_record_moved_to_another_file_is_named() {
    each_way(45, |written, found, dice| {
        let records = written.records("acme");
        let others: Vec<Found> = records
            .into_iter()
            .filter(|other| other.replica == found.replica && other.file != found.file)
            .filter(|other| other.file.ends_with(".jsonl"))
            .collect();
        let other = dice.pick(&others).clone();
        let mut moved = Vec::new();
        rewrite(written, &found.file, |lines| {
            moved = lines.remove(found.line)
        });
        rewrite(written, &other.file, |lines| {
            lines.insert(other.line + 1, moved)
        });
        // An object's record in a segment of its day is where records may stand.
        let kinds = vec![Kind::Misplaced, Kind::Reordered, Kind::Changed];
        found.file.ends_with(".jsonl").then_some((found.seq, kinds))
    });
}

#[test]
fn a_record_of_another_tenant_is_named_in_whose_place_it_stands() {
    each_way(45, |written, found, dice| {
        let theirs = written.records("globex");
        let theirs = dice.pick(&theirs);
        let text = fs::read(written.path(&theirs.file)).expect("readable");
        let line = lines(&text)[theirs.line].clone();
        rewrite(written, &found.file, |lines| lines[found.line] = line);
        Some((found.seq, vec![Kind::OtherTenant]))
    });
}

#[test]
fn what_is_cut_off_behind_a_checkpoint_is_named() {
    each_way(45, |written, found, _| {
        // All that the replica has written from that record on goes.
        for other in written.records("acme").iter().rev() {
            if other.replica == found.replica && other.seq >= found.seq {
                rewrite(written, &other.file, |lines| lines.truncate(other.line));
            }
        }
        Some((found.seq, vec![Kind::Truncated]))
    });
}

#[test]
fn a_file_cut_off_at_any_byte_is_named_at_the_first_record_that_is_gone() {
    each_way(45, |written, found, dice| {
        let path = written.path(&found.file);
        let text = fs::read(&path).expect("readable");
        let before: usize = lines(&text)[..found.line]
            .iter()
            .map(|line| line.len() + 1)
            .sum();
        let length = lines(&text)[found.line].len() as u64;
        let cut = before + usize::try_from(dice.below(length)).expect("short");
        fs::write(&path, &text[..cut]).expect("writable");
        let kinds = vec![Kind::Removed, Kind::Truncated, Kind::Changed];
        Some((found.seq, kinds))
    });
}

#[test]
fn a_chain_written_anew_is_not_what_was_signed() {
    each_way(44, |written, found, _| {
        let mut chain: Vec<Found> = written
            .records("acme")
            .into_iter()
            .filter(|other| other.replica == found.replica)
            .collect();
        chain.sort_by_key(|found| found.seq);
        let mut prev = FIRST_PREV_HASH.to_owned();
        for other in chain {
            rewrite(written, &other.file, |lines| {
                let line = &mut lines[other.line];
                let text = String::from_utf8(line.clone()).expect("text");
                let old = Link::parse(line).expect("a record").prev_hash.into_owned();
                let mut text = text.replace(&old, &prev);
                if other.seq == found.seq {
                    text = text.replace("\"tollgate.cost_usd\":\"", "\"tollgate.cost_usd\":\"9");
                }
                *line = text.into_bytes();
                prev = line_hash(line);
            });
        }
        let signed = found.seq.div_ceil(15) * 15;
        let first = signed - 14;
        Some((first, vec![Kind::Rewritten]))
    });
}

#[test]
fn with_heads_the_last_record_is_covered_as_well() {
    for seed in 1..15 {
        let written = Written::new(seed % 10);
        let heads = written.heads("acme");
        let mut dice = Dice(seed * 31);
        let records = written.records("acme");
        let tail: Vec<&Found> = records.iter().filter(|found| found.seq > 45).collect();
        let found = (*dice.pick(&tail)).clone();
        for other in records.iter().rev() {
            if other.replica == found.replica && other.seq >= found.seq {
                rewrite(&written, &other.file, |lines| lines.truncate(other.line));
            }
        }
        assert_eq!(
            written.verify("acme", None).findings,
            [],
            "no checkpoint knows"
        );
        let verified = written.verify("acme", Some(&heads));
        let finding = &verified.findings[0];
        assert_eq!(
            (finding.kind, finding.seq),
            (Kind::Truncated, Some(found.seq))
        );
        assert_eq!(finding.to, (found.seq < 60).then_some(60));
    }
}

#[test]
fn a_partition_that_is_gone_is_known_to_the_heads() {
    let written = Written::new(2);
    let heads = written.heads("acme");
    fs::remove_dir_all(written.path("audit/acme")).expect("removable");
    let verified = written.verify("acme", Some(&heads));
    let named: Vec<_> = verified
        .findings
        .iter()
        .map(|found| (found.kind, found.seq, found.to))
        .collect();
    assert_eq!(named, [(Kind::Truncated, Some(1), Some(60)); 2]);
}

#[test]
fn a_segment_under_another_name_is_named() {
    for (tenant_of, expected) in [("acme", Kind::Misplaced), ("globex", Kind::OtherTenant)] {
        let written = Written::new(4);
        let records = written.records(tenant_of);
        let found = records
            .iter()
            .filter(|found| found.file.ends_with(".jsonl"));
        let found = found.max_by_key(|found| found.seq).expect("a segment");
        let (stem, _) = found.file.rsplit_once('-').expect("a number");
        let name = format!("{stem}-000000000099.jsonl").replace("globex", "acme");
        fs::rename(written.path(&found.file), written.path(&name)).expect("renamed");
        let verified = written.verify("acme", None);
        let kinds: Vec<Kind> = verified
            .findings
            .iter()
            .map(|finding| finding.kind)
            .collect();
        assert!(kinds.contains(&expected), "{:#?}", verified.findings);
    }
}
