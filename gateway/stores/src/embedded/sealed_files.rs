//! Finds in the local partitions what was sealed before somebody was there to take it.
//!
//! What is sealed is read-only and has a name of ours; everything else is passed over. Given day
//! by day, so that millions of records take no more memory than one day of one partition. Worst
//! case: a file that somebody else made read-only under such a name is handed over, too.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tollgate_core::audit::{Day, Item, Name, ROOT};

/// Bits that let somebody write.
const WRITABLE: u32 = 0o222;

/// Shows what is sealed below `data_dir`, with its length: partition by partition, day by day, a
/// partition's signed checkpoints last.
pub(crate) fn each_batch<E: From<io::Error>>(
    data_dir: &Path,
    mut look: impl FnMut(&[(Name, u64)]) -> Result<(), E>,
) -> Result<(), E> {
    for partition in list(&data_dir.join(ROOT))? {
        let partition = format!("{ROOT}/{partition}");
        let mut days: BTreeMap<Day, Vec<String>> = BTreeMap::new();
        for (day, dir) in day_dirs(data_dir, &partition)? {
            days.entry(day).or_default().push(dir);
        }
        for dirs in days.into_values() {
            let mut found = Vec::new();
            for dir in dirs {
                collect(data_dir, &dir, &mut found)?;
            }
            // Records of their own first; segments in the order of their numbers.
            found.sort_unstable_by_key(|(name, _)| match name.item {
                Item::Segment { first, .. } => (Some(first), name.to_string()),
                _ => (None, name.to_string()),
            });
            look(&found)?;
        }
        let mut signed = Vec::new();
        collect(data_dir, &format!("{partition}/checkpoints"), &mut signed)?;
        signed.sort_unstable();
        look(&signed)?;
    }
    Ok(())
}

/// The `date={yyyy}-{mm}-{dd}` and `{yyyy}/{mm}/{dd}` directories of a partition.
fn day_dirs(data_dir: &Path, partition: &str) -> io::Result<Vec<(Day, String)>> {
    let mut days = Vec::new();
    for name in list(&data_dir.join(partition))? {
        let dir = format!("{partition}/{name}");
        if let Some(date) = name.strip_prefix("date=") {
            days.extend(date.parse().map(|date| (date, dir)));
            continue;
        }
        for month in list(&data_dir.join(&dir))? {
            for day in list(&data_dir.join(format!("{dir}/{month}")))? {
                let date = format!("{name}-{month}-{day}").parse();
                days.extend(date.map(|date| (date, format!("{dir}/{month}/{day}"))));
            }
        }
    }
    Ok(days)
}

fn collect(data_dir: &Path, path: &str, found: &mut Vec<(Name, u64)>) -> io::Result<()> {
    for name in list(&data_dir.join(path))? {
        let path = format!("{path}/{name}");
        // Not followed if it is a link: it could lead to another tenant's records.
        let met = fs::symlink_metadata(data_dir.join(&path))?;
        if met.is_dir() {
            collect(data_dir, &path, found)?;
        } else if met.is_file() && met.permissions().mode() & WRITABLE == 0 {
            found.extend(path.parse().map(|name: Name| (name, met.len())));
        }
    }
    Ok(())
}

/// The names in a directory, ascending; none if it is no directory.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
