//! Reads everything an operator has written and says what is wrong or suspicious with it.
//!
//! Changes nothing and needs no running gateway. What it finds in order, a gateway would load.
//! A warning is about something legal that rarely is what was meant.

mod suspicion;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};
use tollgate_core::policy::{self, Mistake, Policy};

use crate::clock::now;
use crate::config::{self, Directories, OtlpSettings, Settings, Vars, files, headers};
use crate::prices::book::PriceFiles;
use crate::vault;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What would keep the files from being loaded.
    pub(crate) mistakes: Vec<Mistake>,
    /// What is legal but suspicious.
    pub(crate) warnings: Vec<String>,
    /// How many providers there are.
    pub(crate) providers: usize,
    /// How many tenants there are.
    pub(crate) tenants: usize,
    /// How many issuers of foreign tokens there are.
    pub(crate) issuers: usize,
}

impl Report {
    /// Whether a gateway would load it all.
    pub(crate) fn passed(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The report for programs.
    pub(crate) fn to_json(&self) -> Value {
        let mistakes: Vec<Value> = self
            .mistakes
            .iter()
            .map(|mistake| {
                json!({
                    "file": mistake.file,
                    "line": mistake.line,
                    "column": mistake.column,
                    "message": mistake.message,
                })
            })
            .collect();
        json!({
            "ok": self.passed(),
            "mistakes": mistakes,
            "warnings": self.warnings,
            "providers": self.providers,
            "tenants": self.tenants,
            "issuers": self.issuers,
        })
    }
}

/// The report for people: one line for each finding, and a last one that sums them up.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{mistake}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if self.passed() {
            let providers = counted(self.providers, "provider");
            let tenants = counted(self.tenants, "tenant");
            if self.issuers == 0 {
                return writeln!(f, "{providers} and {tenants} are in order");
            }
            let issuers = counted(self.issuers, "issuer");
            writeln!(f, "{providers}, {tenants} and {issuers} are in order")
        } else {
            let files: BTreeSet<&str> = self.mistakes.iter().map(|m| m.file.as_str()).collect();
            let mistakes = counted(self.mistakes.len(), "mistake");
            let files = counted(files.len(), "file");
            writeln!(f, "{mistakes} in {files}; a gateway would not load this")
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Checks `gateway.toml` and all policy files.
pub(crate) fn check(given: &Directories, vars: &dyn Vars) -> Report {
    let mut report = Report::default();
    let settings = config::load(given, vars);
    let settings = settings.map_err(|mistakes| report.mistakes.extend(mistakes));
    let settings = settings.ok();
    if let Some(settings) = &settings {
        report.warnings.extend(absent_files(settings));
        for (table, to) in settings.collectors() {
            report.mistakes.extend(unusable_headers(to));
            let suspicion = suspicion::about_the_collector(table, to);
            report.warnings.extend(suspicion);
        }
    }
    let dir = config::policies_dir(given, vars);
    match files::read(&dir) {
        Ok(files) => {
            for path in &files.passed_over {
                let path = path.display();
                report
                    .warnings
                    .push(format!("{path} is passed over: policy files end in .toml"));
            }
            match policy::parse(&files.policy) {
                Ok(policy) => report.take(&policy, settings.as_ref()),
                Err(mistakes) => report.mistakes.extend(mistakes),
            }
        }
        Err(mistakes) => report.mistakes.extend(mistakes),
    }
    report
}

impl Report {
    fn take(&mut self, policy: &Policy, settings: Option<&Settings>) {
        self.providers = policy.providers.len();
        self.tenants = policy.tenants.len();
        self.issuers = policy.issuers.len();
        self.warnings.extend(suspicion::find(policy));
        let Some(settings) = settings else {
            return;
        };
        if let Some(conflict) = vault::conflict(settings, policy) {
            let file = settings.policies_dir.join("gateway.toml");
            self.mistakes.push(Mistake {
                file: file.display().to_string(),
                line: 1,
                column: 1,
                message: conflict.to_string(),
            });
        }
        let store = settings.store.as_ref();
        self.warnings.extend(suspicion::about_locks(policy, store));
        if let Ok(prices) = PriceFiles::of(settings).load() {
            self.warnings
                .extend(suspicion::about_aliases(policy, &prices, now()));
        }
    }
}

/// Files that are named in `gateway.toml` but not there. They may well be on another machine.
fn absent_files(settings: &Settings) -> Vec<String> {
    let tls = settings
        .tls
        .iter()
        .flat_map(|tls| {
            let clients = tls.clients.as_ref().map(|clients| &clients.file);
            [Some(&tls.certificate), Some(&tls.key), clients]
        })
        .flatten();
    let store = settings.store.iter();
    let of_store = store.filter_map(|store| store.config.ca_file.as_ref());
    let otlp = settings.collectors();
    let of_otlp = otlp.flat_map(|(_, otlp)| [&otlp.server.ca_file, &otlp.headers_file]);
    tls.chain(&settings.prices_file)
        .chain(of_store)
        .chain(of_otlp.flatten())
        .filter(|file| !file.exists())
        .map(|file| format!("gateway.toml names {}, which is not there", file.display()))
        .collect()
}

/// What is wrong with a file of headers that is there.
fn unusable_headers(to: &OtlpSettings) -> Vec<Mistake> {
    let file = to.headers_file.as_deref().filter(|file| file.exists());
    let read = file.map(headers::read);
    read.and_then(Result::err).unwrap_or_default()
}

#[cfg(test)]
mod tests;
