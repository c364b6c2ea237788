//! `tollgate doctor`: looks over a deployment, running or not, and says what to do.
//!
//! ```text
//! settings, policy → facts, area by area → judge (pure) → findings → table or JSON
//! ```
//! Changes nothing, sends no secret, shows no value. What it finds is what this user sees from this
//! machine. Worst case: something that is wrong in a way that nobody thought of; then it says ok.

mod clock;
mod contact;
mod directory;
mod expiry;
mod finding;
mod fleet;
mod listeners;
mod prices;
mod running;
mod secrets;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tollgate_core::policy::{self, Policy};
use tollgate_core::price::CATALOGUE_AS_OF;
use tollgate_core::time::Timestamp;
use tollgate_stores::embedded;
use tollgate_stores::redis::{self, Health};

use crate::admins::file::AdminFile;
use crate::clock::now;
use crate::config::{self, Directories, ProcessVars, Settings, files};
use crate::data_dir::DataDir;
use crate::prices::book::PriceFiles;
use crate::{check, output, vault};
use finding::{Area, Finding};

const POLICY: Area = Area("policy");
const STORE: Area = Area("store");

/// How to look.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Also connect to everybody beyond this machine (upstreams, issuers, collectors, webhook,
    /// vault): name, connection and certificate; no request is sent
    #[arg(long)]
    contact: bool,
    /// End with 1 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Does it. Ends with 0 if there is no problem.
    ///
    /// # Errors
    /// If the findings cannot be printed.
    pub(crate) fn run(&self, given: &Directories) -> anyhow::Result<ExitCode> {
        // The only provider in the build; a second installation would find it there already.
        let _present = rustls::crypto::ring::default_provider().install_default();
        let findings = self.look(given)?;
        if self.json {
            output::json(&finding::json(&findings))?;
        } else {
            output::data(&finding::table(&findings))?;
        }
        let [_, warnings, problems] = finding::counts(&findings);
        Ok(if problems > 0 || (self.strict && warnings > 0) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn look(&self, given: &Directories) -> anyhow::Result<Vec<Finding>> {
        let mut found = policy_files(given);
        // Whatever is wrong with them has been told.
        let Ok(settings) = config::load(given, &ProcessVars) else {
            return Ok(found);
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let parsed = files::read(&settings.policies_dir);
        let parsed = parsed.and_then(|files| policy::parse(&files.policy)).ok();
        found.extend(runtime.block_on(self.deployment(&settings, parsed.as_ref())));
        Ok(found)
    }

    async fn deployment(&self, settings: &Settings, policy: Option<&Policy>) -> Vec<Finding> {
        let mut found = Vec::new();
        let running = gateway(settings, &mut found).await;
        found.extend(listeners::judge(&listeners::look(settings, running)));
        let health = shared(settings, &mut found).await;
        found.extend(clock::judge(&clock::Facts {
            now: now(),
            written: clock::written(&settings.data_dir),
            redis: health.map(|health| health.time),
            skew: settings.tokens.clock_skew,
        }));
        match directory::look(&settings.data_dir) {
            Ok(facts) => {
                found.extend(directory::judge(&facts));
                found.push(database(settings));
                found.extend(admins(settings));
                if let Some(policy) = policy {
                    found.extend(credentials(settings, policy).await);
                }
            }
            Err(absent) => found.push(absent),
        }
        found.extend(price_files(settings, policy));
        let certificates = expiry::certificates(settings);
        found.extend(expiry::judge_certificates(&certificates, now()));
        let destinations = contact::all(settings, policy);
        if self.contact {
            found.extend(contact::judge(&contact::look(destinations).await));
        } else {
            found.push(contact::not_asked(&destinations));
        }
        found
    }
}

/// What `tollgate check` says.
fn policy_files(given: &Directories) -> Vec<Finding> {
    let report = check::check(given, &ProcessVars);
    let mistakes = report.mistakes.iter();
    let mut found: Vec<Finding> = mistakes
        .map(|it| POLICY.problem(it.to_string(), "correct it; a gateway would not load it"))
        .collect();
    let advice = "see what was meant; it is legal as it is";
    let warnings = report.warnings.iter();
    found.extend(warnings.map(|it| POLICY.warning(it.clone(), advice)));
    if found.is_empty() {
        let (providers, tenants) = (report.providers, report.tenants);
        found.push(POLICY.ok(format!(
            "{providers} providers and {tenants} tenants are in order"
        )));
    }
    found
}

/// Whether a gateway runs on the data directory, and how it is.
async fn gateway(settings: &Settings, found: &mut Vec<Finding>) -> bool {
    let announced = match DataDir::at(&settings.data_dir).announced() {
        Ok(announced) => announced,
        Err(_nobody) => {
            found.push(running::absent("nothing says so in its data directory"));
            return false;
        }
    };
    match running::look(announced).await {
        Ok(facts) => {
            found.extend(running::judge(&facts));
            true
        }
        Err(error) => {
            let why = format!("it was at {announced} and does not answer ({error:#})");
            found.push(running::absent(&why));
            false
        }
    }
}

/// How Redis is, where there is a fleet.
async fn shared(settings: &Settings, found: &mut Vec<Finding>) -> Option<Health> {
    let fleet = settings.fleet.as_ref()?;
    let asked = async {
        let redis = fleet.redis()?;
        let health = redis::health(&redis).await?;
        anyhow::Ok((health, redis::list(&redis).await?))
    };
    match asked.await {
        Ok((health, members)) => {
            found.extend(fleet::judge(&health, &members));
            Some(health)
        }
        Err(error) => {
            found.push(fleet::away(&format!("{error:#}")));
            None
        }
    }
}

fn database(settings: &Settings) -> Finding {
    let advice = "stop the gateway, keep a copy of the directory, and restore it from the backup";
    match embedded::examine(&settings.data_dir) {
        Ok(faults) if faults.is_empty() => {
            STORE.ok("state.db is whole; `tollgate audit verify` says whether the records are")
        }
        Ok(faults) => STORE.problem(format!("state.db is spoilt: {}", faults.join("; ")), advice),
        Err(error) => {
            let error = anyhow::Error::from(error);
            STORE.problem(format!("state.db cannot be read: {error:#}"), advice)
        }
    }
}

fn admins(settings: &Settings) -> Vec<Finding> {
    let file = AdminFile::of(&DataDir::at(settings.keys_dir()));
    match file.read() {
        Ok(all) => expiry::judge_admins(all.all(), now()),
        Err(error) => vec![expiry::no_admins(&format!("{error:#}"))],
    }
}

async fn credentials(settings: &Settings, policy: &Policy) -> Vec<Finding> {
    match vault::open(settings, settings.keys_dir(), policy) {
        Ok(vault) => secrets::judge(&secrets::look(&*Arc::clone(&vault), policy).await),
        Err(error) => vec![secrets::closed(&format!("{error:#}"))],
    }
}

fn price_files(settings: &Settings, policy: Option<&Policy>) -> Vec<Finding> {
    let files = PriceFiles::of(settings);
    let prices = match files.load() {
        Ok(prices) => prices,
        Err(error) => return vec![prices::unusable(&format!("{error:#}"))],
    };
    let now = now();
    let built_in = CATALOGUE_AS_OF.parse::<Timestamp>().unwrap_or(now);
    prices::judge(&prices::Facts {
        now,
        as_of: files.installed_at().unwrap_or(built_in),
        unpriced: policy.map_or_else(Vec::new, |policy| prices::unpriced(policy, &prices, now)),
    })
}
