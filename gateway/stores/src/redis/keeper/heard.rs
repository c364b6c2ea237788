//! What one beat brings, taken apart.

use redis::Value;

use crate::redis::visits::texts;

/// What a beat brought.
pub(super) struct Heard {
    pub(super) now: u64,
    pub(super) epoch: String,
    pub(super) state: String,
    pub(super) lacking: Vec<String>,
    pub(super) members: Vec<(String, u64)>,
    pub(super) entries: Vec<(String, String)>,
    /// Who is gone, and who speaks for them.
    pub(super) heirs: Vec<(String, String)>,
}

impl Heard {
    pub(super) fn read(values: Vec<Value>) -> Option<Self> {
        let [now, epoch, state, lacking, members, entries, heirs] =
            <[Value; 7]>::try_from(values).ok()?;
        let list = |value| match value {
            Value::Array(values) => texts(values).ok(),
            _ => None,
        };
        let text = |value| texts(vec![value]).ok()?.into_iter().next();
        let pairs = |flat: Vec<String>| {
            let pair = |two: &[String]| Some((two.first()?.clone(), two.get(1)?.clone()));
            flat.chunks(2).map(pair).collect::<Option<Vec<_>>>()
        };
        let seen = |(name, at): (String, String)| Some((name, at.parse().ok()?));
        let members = pairs(list(members)?)?.into_iter().map(seen);
        Some(Self {
            now: text(now)?.parse().ok()?,
            epoch: text(epoch)?,
            state: text(state)?,
            lacking: list(lacking)?,
            members: members.collect::<Option<_>>()?,
            entries: pairs(list(entries)?)?,
            heirs: pairs(list(heirs)?)?,
        })
    }

    /// For how many seconds each replica has been silent.
    pub(super) fn silences(&self) -> Vec<(String, u64)> {
        let silence = |at: u64| self.now.saturating_sub(at) / 1000;
        let each = self
            .members
            .iter()
            .map(|(name, at)| (name.clone(), silence(*at)));
        each.collect()
    }

    pub(super) fn alive(&self) -> usize {
        let silences = self.silences();
        silences.iter().filter(|(_, seconds)| *seconds < 5).count()
    }
}
