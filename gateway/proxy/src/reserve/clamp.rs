//! Lowers a call's output bound in its request, for tenants who would rather have a shorter
//! answer than a refusal.
//!
//! Worst case: a bound lower than what the provider or the request's own settings allow (a
//! thinking budget, say) makes the provider refuse, which costs nothing.

use bytes::Bytes;
use tollgate_core::call::with_output_bound;
use tollgate_core::policy::Clamp;

use crate::ask::Payload;
use crate::settle::Tariff;

/// How often a bound is lowered to what is left. Others reserve at the same time, so what was left
/// a moment ago may not be any more.
const MOST_TRIES: u8 = 4;

/// What may be written into one request, and what has been.
pub(crate) struct Clamping {
    rule: Option<Clamp>,
    tries: u8,
    /// The bound that stands in the request now, if it is not the client's.
    pub(crate) written: Option<u64>,
}

impl Clamping {
    pub(super) const fn new(rule: Option<Clamp>) -> Self {
        Self {
            rule,
            tries: 0,
            written: None,
        }
    }

    /// Lowers a bound that is missing or above the tenant's ceiling.
    pub(super) fn lower_to_ceiling(&mut self, tariff: &mut Tariff, payload: &mut Payload) {
        let ceiling = self.rule.and_then(|rule| rule.max_output_tokens);
        let (Some(ceiling), Some(ask)) = (ceiling, tariff.ask()) else {
            return;
        };
        let most = ask.max_output_tokens.or(tariff.most_output());
        // A model that gives less by itself might refuse the tenant's ceiling.
        if most.is_none_or(|most| most > ceiling) {
            self.lower(tariff, payload, ceiling);
        }
    }

    /// Lowers the bound to one that is said to fit. Returns whether to ask again.
    pub(super) fn lower_to_fit(
        &mut self,
        tariff: &mut Tariff,
        payload: &mut Payload,
        fitting: Option<u64>,
    ) -> bool {
        let Some(fitting) = fitting.filter(|_| self.rule.is_some() && self.tries < MOST_TRIES)
        else {
            return false;
        };
        self.tries = self.tries.saturating_add(1);
        self.lower(tariff, payload, fitting)
    }

    fn lower(&mut self, tariff: &mut Tariff, payload: &mut Payload, tokens: u64) -> bool {
        let (Some(ask), Payload::Whole(body)) = (tariff.ask_mut(), payload) else {
            return false;
        };
        if ask.max_output_tokens.is_some_and(|bound| bound <= tokens) {
            return false;
        }
        let Some(bytes) = with_output_bound(&body.bytes, ask, tokens) else {
            return false;
        };
        let longer = bytes.len().saturating_sub(body.bytes.len());
        let longer = u64::try_from(longer).unwrap_or(u64::MAX);
        ask.body_bytes = ask.body_bytes.saturating_add(longer);
        ask.max_output_tokens = Some(tokens);
        body.bytes = Bytes::from(bytes);
        self.written = Some(tokens);
        true
    }
}
