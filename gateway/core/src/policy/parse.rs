//! Policy text to [`Policy`], collecting every mistake with its line.
//!
//! Decides what a file under `providers/`, `tenants/` and `issuers/` may say and whether the files agree with
//! one another. Knows neither disk nor clock. At worst one mistake makes it report a second one;
//! text with any mistake yields no policy at all.

mod certificate;
mod credential;
mod elevated;
mod issuer;
mod kind;
mod place;
mod provider;
mod records;
mod tenant;

pub use place::{FRAMING_HEADERS, upstream};

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::issuer::{Issuer, Named};
use super::reader::{Mistake, Source, shown, suggestion};
use super::{Holder, Policy, Provider, Tenant};
use crate::identity::SubjectName;
use crate::ids::{ProviderName, TenantId};

/// One file of the policies directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its path, ending in `providers/NAME.toml`, `tenants/NAME.toml` or `issuers/NAME.toml`; mistakes
    /// name it so.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The providers read so far.
pub(super) struct Providers {
    by_name: BTreeMap<ProviderName, Arc<Provider>>,
    /// Names of providers whose files hold mistakes: known to exist, not known in detail.
    broken: Vec<ProviderName>,
    /// Whether some file was too broken to tell the provider's name.
    unnamed: bool,
}

/// Reads all files into one policy.
///
/// # Errors
/// Every mistake in every file, in the order of the files and their lines.
pub fn parse(files: &[PolicyFile]) -> Result<Policy, Vec<Mistake>> {
    let mut files: Vec<&PolicyFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut mistakes = Vec::new();
    for file in &files {
        if kind(&file.path) == Kind::Unknown {
            mistakes.push(Mistake {
                file: file.path.clone(),
                line: 1,
                column: 1,
                message: "policy files lie in providers/, tenants/ or issuers/ and end in .toml"
                    .to_owned(),
            });
        }
    }
    let providers = read_providers(&files, &mut mistakes);
    check_seals(&files, &providers, &mut mistakes);
    let (tenants, certificates) = read_tenants(&files, &providers, &mut mistakes);
    let issuers = read_issuers(&files, &tenants, &mut mistakes);
    if mistakes.is_empty() {
        Ok(Policy {
            version: version(&files),
            providers: providers.by_name,
            tenants,
            certificates,
            issuers,
        })
    } else {
        mistakes.sort();
        Err(mistakes)
    }
}

fn read_providers(files: &[&PolicyFile], mistakes: &mut Vec<Mistake>) -> Providers {
    let mut providers = Providers {
        by_name: BTreeMap::new(),
        broken: Vec::new(),
        unnamed: false,
    };
    let mut places: BTreeMap<ProviderName, String> = BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| kind(&file.path) == Kind::Provider)
    {
        let source = Source::new(&file.path, &file.text);
        let read = source
            .read(|root| provider::read(root, &file.path))
            .unwrap_or_default();
        match read.name {
            None => providers.unnamed = true,
            Some((name, at)) => {
                if let Some(earlier) = places.get(&name) {
                    source.mistake(
                        at,
                        format!("provider `{name}` is already defined at {earlier}"),
                    );
                }
                places
                    .entry(name.clone())
                    .or_insert_with(|| located(&source, file, at));
                match read.provider {
                    Some(provider) => {
                        providers.by_name.insert(name, Arc::new(provider));
                    }
                    None => providers.broken.push(name),
                }
            }
        }
        mistakes.extend(source.into_mistakes());
    }
    providers
}

/// Tokens are sealed for providers that there are, and that take a key.
fn check_seals(files: &[&PolicyFile], providers: &Providers, mistakes: &mut Vec<Mistake>) {
    if providers.unnamed || !providers.broken.is_empty() {
        return;
    }
    for provider in providers.by_name.values() {
        for name in provider.endpoints.iter().flat_map(|it| &it.seals_for) {
            let wrong = match providers.by_name.get(name) {
                Some(target) if target.place.is_some() => continue,
                Some(_) => format!("`seals_for`: provider `{name}` is keyless"),
                None => format!("`seals_for`: there is no provider `{name}`"),
            };
            let file = files.iter().find(|file| {
                kind(&file.path) == Kind::Provider
                    && file.text.contains(&format!("\"{}\"", provider.name))
                    && file.text.contains("seals_for")
            });
            mistakes.push(Mistake {
                file: file.map_or_else(String::new, |file| file.path.clone()),
                line: 1,
                column: 1,
                message: wrong,
            });
        }
    }
}

fn read_tenants(
    files: &[&PolicyFile],
    providers: &Providers,
    mistakes: &mut Vec<Mistake>,
) -> (
    HashMap<TenantId, Arc<Tenant>>,
    HashMap<SubjectName, Arc<Holder>>,
) {
    let (mut tenants, mut certificates) = (HashMap::new(), HashMap::new());
    let mut places: HashMap<TenantId, String> = HashMap::new();
    let mut names: HashMap<SubjectName, String> = HashMap::new();
    for file in files.iter().filter(|file| kind(&file.path) == Kind::Tenant) {
        let source = Source::new(&file.path, &file.text);
        let read = source.read(|root| tenant::read(root, providers)).flatten();
        if let Some((tenant, at, mapped)) = read {
            if let Some(earlier) = places.get(&tenant.id) {
                let id = &tenant.id;
                source.mistake(at, format!("tenant `{id}` is already defined at {earlier}"));
            }
            places.insert(tenant.id.clone(), located(&source, file, at));
            tenants.insert(tenant.id.clone(), Arc::new(tenant));
            for (name, at, holder) in mapped {
                match names.entry(name.clone()) {
                    Entry::Occupied(earlier) => {
                        let earlier = earlier.get();
                        let said =
                            format!("certificates of `{name}` are already mapped at {earlier}");
                        source.mistake(at, said);
                    }
                    Entry::Vacant(free) => {
                        free.insert(located(&source, file, at));
                        certificates.insert(name, Arc::new(holder));
                    }
                }
            }
        }
        mistakes.extend(source.into_mistakes());
    }
    (tenants, certificates)
}

fn read_issuers(
    files: &[&PolicyFile],
    tenants: &HashMap<TenantId, Arc<Tenant>>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Arc<Issuer>> {
    let mut issuers: BTreeMap<String, Arc<Issuer>> = BTreeMap::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for file in files.iter().filter(|file| kind(&file.path) == Kind::Issuer) {
        let source = Source::new(&file.path, &file.text);
        if let Some((issuer, at)) = source.read(|root| issuer::read(root, &file.path)).flatten() {
            let iss = issuer.expected.issuer.clone();
            if let Some(earlier) = places.get(&iss) {
                let shown = shown(&iss);
                source.mistake(
                    at,
                    format!("issuer `{shown}` is already defined at {earlier}"),
                );
            }
            // With a mistake in it a tenant's file is not among the tenants, and already named.
            if mistakes.is_empty() {
                for tenant in unknown_tenants(&issuer, tenants) {
                    let known = tenants.keys().map(TenantId::as_str);
                    let hint = suggestion(tenant.as_str(), known);
                    source.mistake(
                        at,
                        format!("[map] gives tenant `{tenant}`, and there is none{hint}"),
                    );
                }
            }
            places.insert(iss.clone(), located(&source, file, at));
            issuers.insert(iss, Arc::new(issuer));
        }
        mistakes.extend(source.into_mistakes());
    }
    issuers
}

/// Tenants that mappings give by name and no file defines.
fn unknown_tenants<'i>(
    issuer: &'i Issuer,
    tenants: &HashMap<TenantId, Arc<Tenant>>,
) -> Vec<&'i TenantId> {
    let literal = |mapping: &'i super::issuer::Mapping| match &mapping.tenant {
        Named::Literal(tenant) => Some(tenant),
        Named::Claim { .. } => None,
    };
    let named = issuer.mappings.iter().filter_map(literal);
    named
        .filter(|tenant| !tenants.contains_key(*tenant))
        .collect()
}

fn located(source: &Source<'_>, file: &PolicyFile, at: usize) -> String {
    let (line, column) = source.place(at);
    format!("{}:{line}:{column}", file.path)
}

#[derive(PartialEq, Eq)]
enum Kind {
    Provider,
    Tenant,
    Issuer,
    Unknown,
}

fn kind(path: &str) -> Kind {
    let mut parts = path.rsplit('/');
    let toml = parts.next().is_some_and(|name| name.ends_with(".toml"));
    match parts.next() {
        Some("providers") if toml => Kind::Provider,
        Some("tenants") if toml => Kind::Tenant,
        Some("issuers") if toml => Kind::Issuer,
        _ => Kind::Unknown,
    }
}

/// The directory that holds `providers/`, as text to put before a relative path.
fn policies_dir(path: &str) -> Option<&str> {
    path.rsplitn(3, '/').nth(2)
}

/// SHA-256 over the names (from `providers/`, `tenants/` or `issuers/` on) and texts, each with its length.
fn version(files: &[&PolicyFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        let name = match policies_dir(&file.path) {
            Some(dir) => file.path.get(dir.len()..).unwrap_or(&file.path),
            None => &file.path,
        };
        for part in [name.trim_start_matches('/'), &file.text] {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests;
