//! Reads the `[credentials]` of a tenant's file: which keys it has, and where each may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tenant::{Known, checked, patterns, read_paths, read_provider};
use super::{Providers, kind, place};
use crate::ids::{HandleName, ProviderName, TenantId};
use crate::policy::reader::{self, Section};
use crate::policy::{Binding, Credential, CredentialKind, Credentials, SEALED_PREFIX};
use crate::vault::{SecretName, VaultScope};

pub(super) fn read(
    root: &Section<'_>,
    providers: &Providers,
    tenant: Option<&TenantId>,
) -> Credentials {
    let mut defaults: BTreeMap<ProviderName, HandleName> = BTreeMap::new();
    let read = root.entries("credentials", |name, at, section| {
        let name: Option<HandleName> = checked(section, at, name);
        let (provider, known) = read_provider(section, providers);
        let is_default = section.optional("default", reader::boolean) == Some(true);
        let agents = patterns(section, "agents");
        let shared: Option<HandleName> = section.optional("platform_key", reader::parsed);
        let binding = read_binding(section, &known);
        let (name, provider) = (name?, provider?);
        if name.as_str().starts_with(SEALED_PREFIX) {
            let own = format!("names that begin with `{SEALED_PREFIX}` are given by the gateway");
            section.mistake(at, own);
        }
        if is_default {
            let earlier = defaults
                .entry(provider.clone())
                .or_insert_with(|| name.clone());
            if *earlier != name {
                section.mistake(
                    section.at("default"),
                    format!("`{earlier}` already is the default credential for `{provider}`"),
                );
            }
        }
        let secret = match shared {
            Some(name) => SecretName {
                scope: VaultScope::Platform,
                name,
            },
            None => SecretName::of_tenant(tenant?.clone(), name.clone()),
        };
        let (binding, kind) = binding?;
        let credential = Credential {
            name,
            secret,
            provider,
            is_default,
            agents,
            binding,
            kind,
        };
        Some(Arc::new(credential))
    });
    read.into_iter().flatten().collect()
}

fn read_binding(
    section: &Section<'_>,
    known: &Option<Known<'_>>,
) -> Option<(Binding, CredentialKind)> {
    let url = section.optional("url", place::origin);
    let methods: Vec<_> = section.list("methods", place::method);
    let paths = read_paths(section, known);
    let own_place = section.table("place", place::place);
    let given = kind::given(section);
    let Some(Known::Whole(provider)) = known else {
        return None;
    };
    let Some(usual_place) = &provider.place else {
        let name = &provider.name;
        section.mistake(
            section.start(),
            format!("provider `{name}` is keyless: no credential is ever sent to it"),
        );
        return None;
    };
    let upstream = &provider.upstream;
    let (tls, host, port) = match url {
        Some(url) => {
            if !url.base_path.is_empty() {
                section.mistake(
                    section.at("url"),
                    "`url` binds scheme, host and port; name paths in `paths`",
                );
            }
            (url.tls, url.host, url.port)
        }
        None => (upstream.tls, upstream.host.clone(), upstream.port),
    };
    if !tls && !upstream.insecure_plain_http {
        section.mistake(
            section.start(),
            format!(
                "this secret would go over plain http; give provider `{}` an https:// upstream, or set `insecure = true` there",
                provider.name
            ),
        );
    }
    for (method, at) in &methods {
        let mut endpoints = provider.endpoints.iter();
        if !endpoints.any(|endpoint| endpoint.methods.contains(method)) {
            section.mistake(
                *at,
                format!("no endpoint of provider `{}` takes {method}", provider.name),
            );
        }
    }
    let place = match own_place {
        Some(place) => place?,
        None => usual_place.clone(),
    };
    let (kind, place) = kind::read(section, given, place, provider)?;
    let binding = Binding {
        tls,
        host,
        port,
        methods: methods.into_iter().map(|(method, _)| method).collect(),
        paths,
        place,
    };
    Some((binding, kind))
}
