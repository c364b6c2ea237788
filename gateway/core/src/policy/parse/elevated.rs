//! Reads the `[[elevated]]` tables of a tenant's file.
//!
//! A table that fits no endpoint would mark nothing and look as if it did, so it is a mistake.

use http::Method;

use super::tenant::{Known, read_paths, read_provider};
use super::{Providers, place};
use crate::policy::reader::{self, Section};
use crate::policy::{ElevatedRule, NamePattern, PathPattern, Provider};

pub(super) fn read(root: &Section<'_>, providers: &Providers) -> Vec<ElevatedRule> {
    let read = root.tables("elevated", |section| read_rule(section, providers));
    read.into_iter().flatten().collect()
}

fn read_rule(section: &Section<'_>, providers: &Providers) -> Option<ElevatedRule> {
    let (provider, known) = read_provider(section, providers);
    let methods: Vec<(Method, usize)> = section.list("methods", place::method);
    let paths = read_paths(section, &known);
    let agents: Vec<(NamePattern, usize)> = section.list("agents", reader::parsed);
    if section.has("tools") {
        section.optional("tools", |_value| {
            Err::<(), _>(
                "cannot be told apart: a tool's name stands in the body, which goes through unread; mark its endpoint by `methods` and `paths`"
                    .to_owned(),
            )
        });
    }
    if section.is_empty_list("methods") {
        section.mistake(
            section.at("methods"),
            "`methods` is empty; leave it out to mean all, or remove the table to mean none",
        );
    }
    if !section.has("agents") || section.is_empty_list("agents") {
        section.mistake(
            section.at("agents"),
            "`agents` must say who may use what is elevated here, such as [\"release-*\"]; to let nobody, take it out of [[allow]]",
        );
    }
    if let Some(Known::Whole(provider)) = &known {
        for (method, at) in &methods {
            let mut endpoints = provider.endpoints.iter();
            if !endpoints.any(|endpoint| endpoint.methods.contains(method)) {
                let name = &provider.name;
                section.mistake(
                    *at,
                    format!("no endpoint of provider `{name}` takes {method}"),
                );
            }
        }
    }
    let methods: Vec<Method> = methods.into_iter().map(|(method, _)| method).collect();
    if let Some(Known::Whole(provider)) = &known {
        for path in &paths {
            if reaches(provider, &[], path) && !reaches(provider, &methods, path) {
                section.mistake(
                    section.at("methods"),
                    format!("no endpoint that {path} fits takes one of these methods"),
                );
            }
        }
    }
    Some(ElevatedRule {
        provider: provider?,
        methods,
        paths,
        agents: agents.into_iter().map(|(agent, _)| agent).collect(),
    })
}

/// Whether some endpoint has such a path and one of the methods; no methods means any.
fn reaches(provider: &Provider, methods: &[Method], path: &PathPattern) -> bool {
    provider.endpoints.iter().any(|endpoint| {
        endpoint.path.overlaps(path)
            && (methods.is_empty() || methods.iter().any(|it| endpoint.methods.contains(it)))
    })
}
