//! What replicas that are gone have claimed: settled for them, and remembered by one that lives.
//!
//! Nobody can tell what a replica that was killed had used of what it claimed, so after its lease
//! all of that counts as spent, until it comes back and says better. One of those that live keeps a
//! copy of it on its own disk: should Redis forget, it speaks for the one that is gone, and nobody
//! has to wait for it. When all the windows concerned are over, the one that is gone is forgotten.
//!
//! Worst case: a replica that is killed and whose disk is lost leaves its last slices spent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tollgate_core::budget::BudgetKey;
use tollgate_core::ids::TenantId;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

use super::amount;
use super::link::{Link, LinkError, Script};
use super::purse::{GRACE, IDLE};
use super::visits::texts;

static TENANTS: Script = Script::new(
    "local page = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', 1000)
     local answer = { page[1] }
     for n = 1, #page[2] do answer[n + 1] = page[2][n] end
     return answer",
);
static INHERIT: Script = Script::new(concat!(
    include_str!("money.lua"),
    include_str!("inherit.lua")
));
/// Says again for somebody who is gone. KEYS: the counter, the tenant's counters.
/// ARGV: who is gone, claim, lifetime in ms.
static SPEAK: Script = Script::new(concat!(
    include_str!("money.lua"),
    include_str!("speak.lua")
));
/// Names the heir, if nothing was forgotten meanwhile. KEYS: epoch, heirs. ARGV: the epoch, who is
/// gone, the heir or "" to ask only.
static HEIR: Script = Script::new(
    "if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return { 'other' } end
     if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
     return { 'done' }",
);

/// What one that is gone has left, by counter.
type Estate = BTreeMap<BudgetKey, PicoUsd>;

/// The estates that this replica keeps.
pub(super) struct Heirs {
    dir: PathBuf,
    estates: BTreeMap<String, Estate>,
}

impl Heirs {
    /// Those that were kept before.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("inherited");
        fs::create_dir_all(&dir)?;
        let mut estates = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(member) = name.and_then(|name| name.strip_suffix(".json")) {
                let estate = serde_json::from_slice(&fs::read(&path)?)?;
                estates.insert(member.to_owned(), estate);
            }
        }
        Ok(Self { dir, estates })
    }

    /// Whom this replica speaks for.
    pub(super) fn members(&self) -> impl Iterator<Item = &String> {
        self.estates.keys()
    }

    /// It has come back and speaks for itself.
    pub(super) fn give_back(&mut self, member: &str) -> io::Result<()> {
        if self.estates.remove(member).is_some() {
            fs::remove_file(self.file(member))?;
        }
        Ok(())
    }

    /// Whoever of them has nothing left in a window that still counts.
    pub(super) fn forgettable(&self, now: Timestamp) -> Vec<String> {
        let over = |key: &BudgetKey| {
            key.window
                .resets_at()
                .is_some_and(|end| end.plus(GRACE) < now)
        };
        let all = self
            .estates
            .iter()
            .filter(|(_, estate)| estate.keys().all(over));
        all.map(|(member, _)| member.clone()).collect()
    }

    /// Settles what `member` has claimed, and keeps it.
    pub(super) async fn inherit(
        &mut self,
        link: &Link,
        epoch: &str,
        member: &str,
        heir: &str,
    ) -> Result<usize, LinkError> {
        let mut estate = Estate::new();
        let mut cursor = "0".to_owned();
        loop {
            let keys = [link.key("fleet", "tenants")];
            let page = texts(link.run(&TENANTS, &keys, &[cursor], false).await?)?;
            let (next, tenants) = page.split_first().ok_or(LinkError::Foreign)?;
            for tenant in tenants {
                let tenant = tenant.parse().map_err(|_e| LinkError::Foreign)?;
                inherit_of(link, epoch, &tenant, member, &mut estate).await?;
            }
            cursor = next.clone();
            if cursor == "0" {
                break;
            }
        }
        // Had Redis forgotten meanwhile, this would be less than was claimed.
        name_heir(link, epoch, member, "").await?;
        self.keep(member, &estate).map_err(LinkError::Disk)?;
        let count = estate.len();
        self.estates.insert(member.to_owned(), estate);
        name_heir(link, epoch, member, heir).await?;
        Ok(count)
    }

    /// Whether this replica keeps what that one has left.
    pub(super) fn keeps(&self, member: &str) -> bool {
        self.estates.contains_key(member)
    }

    /// Says everything again for those who are gone, after Redis has forgotten.
    pub(super) async fn speak(&self, link: &Link, now: Timestamp) -> Result<(), LinkError> {
        for (member, estate) in &self.estates {
            for (key, claim) in estate {
                let lifetime = match key.window.resets_at() {
                    Some(end) => end.since(now).saturating_add(GRACE),
                    None => IDLE,
                };
                let tag = key.tenant.as_str();
                let keys = [
                    link.key(tag, &format!("money:{}/{}", key.scope, key.window)),
                    link.key(tag, "counters"),
                ];
                let args = [
                    member.clone(),
                    amount::written(*claim),
                    lifetime.as_millis().to_string(),
                ];
                link.run(&SPEAK, &keys, &args, true).await?;
            }
        }
        Ok(())
    }

    fn keep(&self, member: &str, estate: &Estate) -> io::Result<()> {
        let file = self.file(member);
        let beside = file.with_extension("new");
        let mut new = File::create(&beside)?;
        new.write_all(&serde_json::to_vec(estate)?)?;
        new.sync_all()?;
        fs::rename(beside, file)
    }

    fn file(&self, member: &str) -> PathBuf {
        self.dir.join(format!("{member}.json"))
    }
}

async fn name_heir(link: &Link, epoch: &str, gone: &str, heir: &str) -> Result<(), LinkError> {
    let keys = ["epoch", "heirs"].map(|rest| link.key("fleet", rest));
    let args = [epoch, gone, heir].map(str::to_owned);
    let said = texts(link.run(&HEIR, &keys, &args, true).await?)?;
    match said.first().map(String::as_str) {
        Some("done") => Ok(()),
        _ => Err(LinkError::Forgotten),
    }
}

async fn inherit_of(
    link: &Link,
    epoch: &str,
    tenant: &TenantId,
    member: &str,
    estate: &mut Estate,
) -> Result<(), LinkError> {
    let tag = tenant.as_str();
    let keys = [link.key(tag, "marker"), link.key(tag, "counters")];
    let args = [member.to_owned(), epoch.to_owned()];
    let said = texts(link.run(&INHERIT, &keys, &args, true).await?)?;
    if said.first().is_some_and(|word| word == "closed") {
        return Err(LinkError::Forgotten);
    }
    let prefix = link.key(tag, "money:");
    for pair in said.chunks(2) {
        let [key, claim] = pair else {
            return Err(LinkError::Foreign);
        };
        let rest = key.strip_prefix(&prefix).ok_or(LinkError::Foreign)?;
        let key = format!("{tenant}/{rest}")
            .parse()
            .map_err(|_e| LinkError::Foreign)?;
        estate.insert(key, amount::read(claim).ok_or(LinkError::Foreign)?);
    }
    Ok(())
}
