//! How much is said in the log, at the start and from then on.
//!
//! A level, or directives of the form `target=level,…`, is read strictly where somebody asks for it
//! at run time: `tracing` itself takes a mistyped level for a target that may say everything. A
//! change that lasts for a while goes back at the first look after its time. Worst case: that look
//! is a second late.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tollgate_admin::log::{LogLevel, LogLevels, NotALevel};
use tollgate_core::time::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::clock;

/// Libraries that talk about their own insides at `info`.
const CHATTY: [&str; 4] = ["pingora_core=warn", "hyper=warn", "h2=warn", "rustls=warn"];

/// The longest text that is looked at, and the most directives.
const MAX_BYTES: usize = 1_024;

/// Puts a filter in force.
type PutInForce = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// What is said now, and until when.
struct Now {
    level: String,
    until: Option<Timestamp>,
}

/// What says how much is said.
pub(crate) struct Levels {
    started_with: String,
    now: Mutex<Now>,
    put_in_force: PutInForce,
}

/// The filter of a text that is read as `tracing` does; `None` if it cannot be.
pub(super) fn lenient(level: &str) -> Option<EnvFilter> {
    let filter = EnvFilter::try_new(level).ok()?;
    Some(without_chatter(filter, level))
}

/// The filter that says what `info` does.
pub(super) fn usual() -> EnvFilter {
    without_chatter(EnvFilter::new("info"), "info")
}

fn without_chatter(filter: EnvFilter, level: &str) -> EnvFilter {
    if level.contains('=') {
        return filter;
    }
    let quiet = CHATTY.iter().filter_map(|text| text.parse().ok());
    quiet.fold(filter, EnvFilter::add_directive)
}

/// Reads a level or directives to the last character.
///
/// # Errors
/// Which part of it is none, by its number: its words may be anything.
fn strict(level: &str) -> Result<EnvFilter, NotALevel> {
    if level.len() > MAX_BYTES {
        return Err(NotALevel(format!("it is longer than {MAX_BYTES} bytes")));
    }
    for (number, part) in (1..).zip(level.split(',')) {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        let named = part.contains('=');
        let is_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        let good = !level.is_empty()
            && level.parse::<LevelFilter>().is_ok()
            && level.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (!named || !target.is_empty() && target.chars().all(is_target));
        if !good {
            return Err(NotALevel(format!(
                "part {number} is neither a level (off, error, warn, info, debug, trace) nor target=level, such as tollgate_proxy=debug"
            )));
        }
    }
    lenient(level).ok_or_else(|| NotALevel("it cannot be read".to_owned()))
}

impl Levels {
    /// Where `started_with` is in force.
    pub(super) fn new(started_with: &str, put_in_force: PutInForce) -> Self {
        Self {
            started_with: started_with.to_owned(),
            now: Mutex::new(Now {
                level: started_with.to_owned(),
                until: None,
            }),
            put_in_force,
        }
    }

    fn standing_of(&self, now: &Now) -> LogLevel {
        LogLevel {
            level: now.level.clone(),
            started_with: self.started_with.clone(),
            until: now.until,
        }
    }

    fn change(
        &self,
        level: &str,
        filter: EnvFilter,
        until: Option<Timestamp>,
    ) -> Result<LogLevel, NotALevel> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = || {
            let until = until.map(tracing::field::display);
            tracing::warn!(set_to = level, until, "the log level changes");
        };
        // Said while one is in force that lets it be said, if either does.
        let told = tracing::enabled!(tracing::Level::WARN);
        if told {
            tell();
        }
        (self.put_in_force)(filter).map_err(NotALevel)?;
        if !told {
            tell();
        }
        *now = Now {
            level: level.to_owned(),
            until,
        };
        Ok(self.standing_of(&now))
    }

    /// Goes back to what the process was started with, if the time of a change is over.
    pub(crate) fn look(&self, at: Timestamp) {
        let over = {
            let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            now.until.is_some_and(|until| at >= until)
        };
        if over {
            let filter = lenient(&self.started_with).unwrap_or_else(usual);
            if let Err(NotALevel(why)) = self.change(&self.started_with, filter, None) {
                tracing::error!(why, "the log level stays as it is");
            }
        }
    }
}

impl LogLevels for Levels {
    fn standing(&self) -> LogLevel {
        self.standing_of(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, level: &str, lasts: Option<Duration>) -> Result<LogLevel, NotALevel> {
        let level = level.trim();
        let filter = strict(level)?;
        self.change(level, filter, lasts.map(|lasts| clock::now().plus(lasts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn levels() -> (Levels, Arc<Mutex<Vec<String>>>) {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let put = Arc::clone(&said);
        let put_in_force = move |filter: EnvFilter| {
            put.lock().unwrap().push(filter.to_string());
            Ok(())
        };
        (Levels::new("info", Box::new(put_in_force)), said)
    }

    #[test]
    fn what_is_no_level_changes_nothing_and_is_told_by_its_place() {
        let (levels, said) = levels();
        for (level, part) in [
            ("", 1),
            ("inf", 1),
            ("debug,", 2),
            ("3", 1),
            ("warn,tollgate_proxy=verbose", 2),
            ("=debug", 1),
            ("tollgate[span]=debug", 1),
            ("info,[{sk-canary-log}]=trace", 2),
            ("a b=info", 1),
        ] {
            let NotALevel(why) = levels.set(level, None).expect_err(level);
            assert!(
                why.starts_with(&format!("part {part} is neither")),
                "{level}: {why}"
            );
        }
        assert!(levels.set(&"info,".repeat(300), None).is_err());
        assert!(said.lock().unwrap().is_empty());
        assert_eq!(levels.standing().level, "info");
    }

    #[test]
    fn a_change_holds_until_its_time_is_over_or_for_good() {
        let (levels, said) = levels();
        let now = clock::now();
        let set = levels.set(
            " tollgate_proxy=trace,WARN ",
            Some(Duration::from_secs(600)),
        );
        let set = set.expect("directives");
        assert_eq!(
            (&*set.level, &*set.started_with),
            ("tollgate_proxy=trace,WARN", "info")
        );
        levels.look(now.plus(Duration::from_secs(599)));
        assert_eq!(levels.standing(), set);
        levels.look(now.plus(Duration::from_secs(601)));
        let back = levels.standing();
        assert_eq!((&*back.level, back.until), ("info", None));
        levels.set("off", None).expect("a level");
        levels.look(now.plus(Duration::from_secs(1_000_000)));
        assert_eq!(levels.standing().level, "off");
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 3);
        assert!(said[0].contains("tollgate_proxy=trace") && !said[0].contains("hyper"));
        assert!(said[1].contains("info") && said[1].contains("hyper=warn"));
    }
}
