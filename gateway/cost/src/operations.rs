//! The decisions of one call, each ready to be made over and over: the inputs are those of
//! `loadtest overhead`, a chat of 2 KB with an answer of 1 KB or a stream of 54 events.
//!
//! It does not know what counts them.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{HeaderName, Method};
use tollgate_core::call::{Ask, Request};
use tollgate_core::handle::{self, Asked};
use tollgate_core::identity::{find_token, verify};
use tollgate_core::policy::{Operation, Policy, Provider, Tenant};
use tollgate_core::price::PriceBook;
use tollgate_core::route;
use tollgate_core::scrub::{Filling, Needles, Scrubber};
use tollgate_core::secret::Secret;
use tollgate_core::time::Timestamp;
use tollgate_core::usage::{Framing, Meter, Reading};

use crate::inputs;

/// A decision by its name.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) decide: Box<dyn Fn() -> anyhow::Result<()>>,
}

/// A decision about a call.
type Decide = fn(&Call) -> anyhow::Result<()>;

/// All of them, in the order in which a call meets them.
pub(crate) fn all() -> anyhow::Result<Vec<Named>> {
    let call = Arc::new(Call::new()?);
    let mut all = Vec::new();
    let mut add = |name, decide: Decide| {
        let call = Arc::clone(&call);
        let decide = Box::new(move || decide(&call));
        all.push(Named { name, decide });
    };
    before_contact(&mut add);
    after_contact(&mut add);
    Ok(all)
}

fn before_contact(add: &mut impl FnMut(&'static str, Decide)) {
    add("find_token", |call| {
        black_box(find_token(black_box(&call.headers), None)?);
        Ok(())
    });
    add("verify_token", |call| {
        black_box(verify(
            black_box(&call.token.text),
            &call.token.keys,
            call.now,
        )?);
        Ok(())
    });
    add("route", |call| {
        route::refuse_method_override(black_box(None))?;
        black_box(route::find(
            &call.policy,
            &Method::POST,
            black_box(inputs::PATH),
        )?);
        Ok(())
    });
    add("parse_ask", |call| {
        black_box(call.ask()?);
        Ok(())
    });
    add("bind", |call| {
        black_box(call.bind()?.quotes_handle(&call.body));
        Ok(())
    });
    add("inject", |call| {
        let mut headers = call.headers.clone();
        let body = Some(call.body.as_slice());
        let injected = call
            .bind()?
            .inject(&mut headers, &mut None, body, &call.secret)?;
        black_box((headers, injected));
        Ok(())
    });
    add("worst_case", |call| {
        let rates = call
            .prices
            .rates("openai", inputs::MODEL, black_box(call.now));
        let rates = rates.context("the model has a price")?;
        black_box(rates.worst_case(black_box(&call.ask), 4_096));
        Ok(())
    });
}

fn after_contact(add: &mut impl FnMut(&'static str, Decide)) {
    add("meter_plain", |call| {
        black_box(call.meter(Framing::Document, &call.plain));
        Ok(())
    });
    add("meter_stream_of_54", |call| {
        black_box(call.meter(Framing::Events, &call.stream));
        Ok(())
    });
    add("settle", |call| {
        let rates = call.prices.rates("openai", inputs::MODEL, call.now);
        let settled = call.prices.settle_at(
            "openai",
            rates.as_ref(),
            &call.ask,
            black_box(&call.reading),
            call.now,
            4_096,
        );
        black_box(settled.context("the model has a price")?);
        Ok(())
    });
    add("scrub_64_kib", |call| {
        let mut scrubber = Scrubber::new(Arc::clone(&call.needles), Filling::Mark);
        let _passed = black_box(scrubber.feed(black_box(&call.long)));
        black_box(scrubber.end());
        Ok(())
    });
}

/// Everything that one call and its gateway are made of.
struct Call {
    policy: Policy,
    tenant: Arc<Tenant>,
    provider: Arc<Provider>,
    prices: PriceBook,
    token: inputs::Token,
    now: Timestamp,
    headers: HeaderMap,
    body: Vec<u8>,
    ask: Ask,
    secret: Secret,
    needles: Arc<Needles>,
    plain: Vec<Vec<u8>>,
    stream: Vec<Vec<u8>>,
    reading: Reading,
    long: Vec<u8>,
}

impl Call {
    fn new() -> anyhow::Result<Self> {
        let policy = inputs::policy()?;
        let tenant = policy.tenants.values().next().context("one tenant")?;
        let provider = policy.providers.values().next().context("one provider")?;
        let (tenant, provider) = (Arc::clone(tenant), Arc::clone(provider));
        let now = inputs::NOW.parse()?;
        let token = inputs::token(now)?;
        let body = inputs::request();
        let secret = Secret::new(inputs::SECRET.as_bytes().to_vec());
        let needles =
            Needles::new(&secret).context("the secret is long enough to be looked for")?;
        let mut call = Self {
            headers: headers(&token.text)?,
            ask: parse(&body)?,
            prices: PriceBook::embedded()?,
            policy,
            tenant,
            provider,
            token,
            now,
            body,
            secret,
            needles: Arc::new(needles),
            plain: vec![inputs::plain_answer()],
            stream: inputs::stream(),
            reading: Reading::nothing(),
            long: inputs::long_answer(),
        };
        call.reading = call.meter(Framing::Document, &call.plain);
        Ok(call)
    }

    fn ask(&self) -> anyhow::Result<Ask> {
        parse(black_box(&self.body))
    }

    fn bind(&self) -> anyhow::Result<handle::Bound> {
        let asked = Asked {
            method: &Method::POST,
            path: inputs::PATH_AT_PROVIDER,
            query: None,
            headers: black_box(&self.headers),
        };
        let agent = &self.token.agent;
        let head = handle::bind(&asked, &self.tenant, agent, &self.provider)?;
        Ok(head.with_body(&asked, &self.tenant, agent, &self.provider, &self.body)?)
    }

    fn meter(&self, framing: Framing, pieces: &[Vec<u8>]) -> Reading {
        let withhold = framing == Framing::Events;
        let mut meter = Meter::new(Operation::ChatCompletions, framing, withhold);
        for piece in pieces {
            let _relayed = black_box(meter.feed(black_box(piece)));
        }
        black_box(meter.end());
        meter.finish()
    }
}

fn parse(body: &[u8]) -> anyhow::Result<Ask> {
    let request = Request {
        content_type: Some("application/json"),
        ..Request::json(body)
    };
    Ok(Ask::parse(Operation::ChatCompletions, &request)?)
}

fn headers(token: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:8080"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("user-agent", "loadtest"),
        ("content-length", "2048"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_bad| anyhow!("a token is visible ASCII"))?;
    headers.insert(AUTHORIZATION, bearer);
    Ok(headers)
}
