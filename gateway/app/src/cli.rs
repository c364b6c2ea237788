//! The command line: what can be asked, as types.
//!
//! Parsing is all that happens here; what a command does stands in the module of its name. A
//! command line that cannot be read ends with 2 before anything is touched.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::admins::AdminCommand;
use crate::audit::AuditCommand;
use crate::config::{self, Directories, ProcessVars, Settings, Vars};
use crate::doctor::Doctor;
use crate::explain::Explain;
use crate::fleet::FleetCommand;
use crate::health::Health;
use crate::k8s::K8sCommand;
use crate::log::LogCommand;
use crate::logging::{self, LogFormat};
use crate::operator::Operator;
use crate::prices::PricesCommand;
use crate::reconcile::Reconcile;
use crate::secret::SecretCommand;
use crate::sidecar::Sidecar;
use crate::tenant::{self, TenantCommand};
use crate::token::{TaskCommand, TokenCommand};
use crate::{check, output, quickstart, report, serve};

const EXIT_CODES: &str = "\
Every command takes --help; those that print data take --json.
Exit codes: 0 done, 1 refused or failed, 2 called wrongly.
Environment: TOLLGATE_POLICIES, TOLLGATE_DATA, TOLLGATE_LISTEN, TOLLGATE_ADMIN_LISTEN,
  TOLLGATE_GATEWAY (for sidecars), TOLLGATE_ADMIN_TOKEN (the operator token), TOLLGATE_LOG (error, warn, info, debug, trace).";

/// Egress gateway for the AI agents of many tenants: agents hold short-lived task tokens, the
/// gateway holds the keys, enforces each tenant's policy and spend caps, and keeps the records
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The directory of gateway.toml, providers/ and tenants/ [default: ./policies]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Directories")]
    policies: Option<PathBuf>,
    /// The directory of keys, vault and records [default: as gateway.toml says, or ./data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Directories")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; one line of JSON says when it is ready and where
    Serve(Serve),
    /// Ask the gateway that runs on the data directory whether it can serve calls; 0 if it can
    Health(Health),
    /// Relay an agent's calls from loopback, with a task token that it keeps alive itself
    Sidecar(Sidecar),
    /// See it all work: a throw-away gateway, two tenants, a mock provider
    Quickstart(Quickstart),
    /// Say everything that is wrong with the policy files, with file and line
    Check(Check),
    /// Look over a deployment, running or not, and say what to do
    Doctor(Doctor),
    /// Make, end and explain task tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Declare tasks finished
    #[command(subcommand)]
    Task(TaskCommand),
    /// Say who may use the admin API
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Store and revoke tenants' keys
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show who belongs to the fleet, and go on without who is gone for good
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Show tenants and their policies
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Print manifests for Kubernetes
    #[command(subcommand)]
    K8s(K8sCommand),
    /// Show what has been spent on what
    Report(report::Command),
    /// Compare a provider's exported usage with the records, and explain the difference
    Reconcile(Reconcile),
    /// Show and change how much a running gateway says in its log
    #[command(subcommand)]
    Log(LogCommand),
    /// Check and export what is kept
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Say what would become of a call, and which rule decides
    Explain(Explain),
    /// Show, compare and change what things cost
    #[command(subcommand)]
    Prices(PricesCommand),
}

#[derive(Debug, Args)]
struct Serve {
    /// What log lines on standard error look like
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Take over from the gateway that runs on the data directory: sockets, stores and all, while
    /// its calls go on. Where none runs, start as usual
    #[arg(long)]
    upgrade: bool,
    /// Also stop when standard input ends: for a parent that must leave nothing behind
    #[arg(long, hide = true)]
    leashed: bool,
}

#[derive(Debug, Args)]
struct Quickstart {
    /// End after the demonstration instead of staying up until Ctrl-C
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// Print the settings in force instead, as a gateway.toml with every default spelt out
    #[arg(long)]
    settings: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// If it was refused or failed.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let given = Directories {
            policies: self.policies,
            data: self.data,
        };
        match self.command {
            Command::Serve(Serve {
                log_format,
                upgrade,
                leashed,
            }) => {
                let log = logging::start(log_format, &ProcessVars)?;
                serve::run(&settings(&given)?, &log, upgrade, leashed)?;
            }
            Command::Health(asked) => return asked.run(&data_dir(given)?),
            Command::Sidecar(told) => match told.wanted(&ProcessVars) {
                Ok(wanted) => wanted.run(&ProcessVars)?,
                Err(wrong) => Self::command()
                    .error(ErrorKind::ValueValidation, wrong)
                    .exit(),
            },
            Command::Quickstart(Quickstart { once }) => {
                if given.policies.is_some() || given.data.is_some() {
                    let own = "quickstart works on a directory of its own";
                    Self::command()
                        .error(ErrorKind::ArgumentConflict, own)
                        .exit();
                }
                quickstart::run(once)?;
            }
            Command::Report(report::Command {
                live, tenant, json, ..
            }) if live.live => {
                let operator = operator(&given, live.admin.as_deref())?;
                live.run(&operator, tenant.as_deref(), json)?;
            }
            Command::Report(command) => command.run(&settings(&given)?)?,
            Command::Reconcile(asked) => return asked.run(&settings(&given)?),
            Command::Log(command) => command.run(|admin| operator(&given, admin))?,
            Command::Audit(command) => return command.run(|| settings(&given)),
            Command::Prices(command) => command.run(&settings(&given)?)?,
            Command::Explain(asked) => {
                let find = || operator(&given, asked.admin.as_deref());
                return asked.run(&settings(&given)?, find);
            }
            Command::K8s(command) => command.run()?,
            Command::Check(asked) => return asked.run(&given),
            Command::Doctor(asked) => return asked.run(&given),
            Command::Token(command) => command.run(|admin| operator(&given, admin))?,
            Command::Task(command) => {
                command.run(&operator(&given, command.target().admin.as_deref())?)?;
            }
            Command::Admin(command) => command.run(&settings(&given)?)?,
            Command::Secret(command) => command.run(&settings(&given)?)?,
            Command::Fleet(command) => command.run(&settings(&given)?)?,
            Command::Tenant(command) => command.run(&settings(&given)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn run(&self, given: &Directories) -> anyhow::Result<ExitCode> {
        if self.settings {
            let settings = settings(given)?;
            if self.json {
                output::json(&settings.to_json())?;
            } else {
                output::data(&settings.to_string())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let report = check::check(given, &ProcessVars);
        if self.json {
            output::json(&report.to_json())?;
        } else {
            output::data(&report.to_string())?;
        }
        Ok(if report.passed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The same mistake without the word that nobody expected: it may be a secret, given where only
/// standard input takes one.
pub(crate) fn unseeing(mut wrong: clap::Error) -> clap::Error {
    if wrong.kind() == ErrorKind::UnknownArgument {
        let hides = match wrong.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) => !word.starts_with('-') || word.contains('='),
            _ => true,
        };
        if hides {
            let unsaid = ContextValue::String("(not shown)".to_owned());
            wrong.insert(ContextKind::InvalidArg, unsaid);
            wrong.remove(ContextKind::Suggested);
        }
    }
    wrong
}

fn settings(given: &Directories) -> anyhow::Result<Settings> {
    config::load(given, &ProcessVars).map_err(|mistakes| tenant::listed(&mistakes))
}

/// The data directory. Where flag or environment name it, no file is read for it.
fn data_dir(given: Directories) -> anyhow::Result<PathBuf> {
    let named = || ProcessVars.var("TOLLGATE_DATA").map(PathBuf::from);
    match given.data.clone().or_else(named) {
        Some(dir) => Ok(dir),
        None => Ok(settings(&given)?.data_dir),
    }
}

fn operator(given: &Directories, admin: Option<&str>) -> anyhow::Result<Operator> {
    Operator::find(admin, &settings(given)?, &ProcessVars)
}
