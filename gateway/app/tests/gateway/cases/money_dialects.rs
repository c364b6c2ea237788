//! Case 76: in every language the worst case is reserved and what the provider bills is settled.

use tollgate_core::money::PicoUsd;

use super::ways::{all_forms, counted, is_free, reserved, settled, source};
use crate::harness::{World, outcome};

#[tokio::test]
async fn case_76_every_language_is_metered_exactly_and_within_its_reservation() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let forms: Vec<_> = all_forms().collect();
    let asks = forms
        .iter()
        .map(|(way, streamed)| way.ask("", *streamed).bearer(&token));
    let calls = world.make(asks).await;
    for ((way, _), call) in forms.iter().zip(&calls) {
        assert_eq!(call.answer.status, 200, "{call:#?}");
        assert_eq!(outcome(&call.record), "completed", "{call:#?}");
        assert_eq!(source(call), "exact", "{call:#?}");
        assert_eq!(Some(counted(&call.record)), call.billed, "{call:#?}");
        assert_eq!(settled(call) == PicoUsd::ZERO, is_free(way), "{call:#?}");
        assert!(settled(call) <= reserved(call), "{call:#?}");
    }
}
