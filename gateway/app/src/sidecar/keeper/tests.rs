//! The keeper on a clock of its own: nothing here waits for real.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::super::link::{Link, LinkConfig};
use super::*;

/// What a desk is asked, and when.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Asked {
    Credential,
    Token(String),
}

/// Answers as scripted; afterwards it gives numbered tokens that live 300 s.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Granted, Trouble>>>,
    asked: Mutex<Vec<(Duration, Asked)>>,
    others: Mutex<Option<Arc<Link>>>,
}

struct ScriptedDesk {
    script: Arc<Script>,
    started: Instant,
}

impl Desk for ScriptedDesk {
    fn link(&self, current: Option<&Arc<Link>>) -> Result<Arc<Link>, Trouble> {
        let other = self.script.others.lock().expect("whole").take();
        Ok(other.unwrap_or_else(|| current.map_or_else(nowhere, Arc::clone)))
    }

    async fn exchange(&self, _link: &Link, subject: Subject<'_>) -> Result<Granted, Trouble> {
        let asked = match subject {
            Subject::Credential => Asked::Credential,
            Subject::Token(token) => Asked::Token(token.to_str().expect("text").to_owned()),
        };
        let number = {
            let mut all = self.script.asked.lock().expect("whole");
            all.push((self.started.elapsed(), asked));
            all.len()
        };
        let scripted = self.script.answers.lock().expect("whole").pop_front();
        scripted.unwrap_or_else(|| granted(&format!("t{number}"), 300))
    }
}

/// A link that nothing is sent over.
fn nowhere() -> Arc<Link> {
    let config = LinkConfig {
        gateway: "http://127.0.0.1:9".parse().expect("an origin"),
        ca: None,
        identity: None,
    };
    let files = config.read().expect("no files");
    Arc::new(Link::new(&config, &files).expect("no TLS"))
}

#[expect(clippy::unnecessary_wraps, reason = "stands in lists of answers")]
fn granted(token: &str, seconds: u64) -> Result<Granted, Trouble> {
    Ok(Granted {
        token: HeaderValue::from_str(token).expect("a header"),
        life: Duration::from_secs(seconds),
    })
}

fn refused() -> Result<Granted, Trouble> {
    Err(Trouble::Refused {
        status: 401,
        reason: "invalid_grant".to_owned(),
    })
}

fn away() -> Result<Granted, Trouble> {
    Err(Trouble::Unreachable("connection refused".to_owned()))
}

/// A keeper at work on these answers.
fn start(answers: Vec<Result<Granted, Trouble>>) -> (Arc<Script>, Arc<Tokens>) {
    let script = Arc::new(Script {
        answers: Mutex::new(answers.into()),
        ..Script::default()
    });
    let tokens = Arc::new(Tokens::default());
    let desk = ScriptedDesk {
        script: Arc::clone(&script),
        started: Instant::now(),
    };
    tokio::spawn(keep(desk, Arc::clone(&tokens)));
    (script, tokens)
}

impl Script {
    fn asked(&self) -> Vec<Asked> {
        let all = self.asked.lock().expect("whole");
        all.iter().map(|(_, asked)| asked.clone()).collect()
    }

    fn times(&self) -> Vec<Duration> {
        let all = self.asked.lock().expect("whole");
        all.iter().map(|(at, _)| *at).collect()
    }
}

fn token(live: &Live) -> &str {
    live.token.to_str().expect("text")
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_two_thirds_of_its_life_and_never_runs_out() {
    let (script, tokens) = start(vec![]);
    for _ in 0..3_600 {
        let live = tokens.live().await.expect("a token, at all times");
        assert!(
            live.ends_at() > Instant::now() + seconds(90),
            "time to spare"
        );
        sleep(seconds(1)).await;
    }
    let asked = script.asked();
    assert_eq!(asked[0], Asked::Credential);
    let renewals = asked.iter().enumerate().skip(1);
    for (number, asked) in renewals {
        assert_eq!(
            *asked,
            Asked::Token(format!("t{number}")),
            "by the last token"
        );
    }
    for pair in script.times().windows(2) {
        let life = pair[1] - pair[0];
        assert!((seconds(169)..=seconds(201)).contains(&life), "{life:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_once_ask_for_one_token() {
    let (script, tokens) = start(vec![away()]);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { tokens.live().await.is_ok() })
        })
        .collect();
    for call in calls {
        assert!(call.await.expect("no panic"), "it waited for the token");
    }
    assert_eq!(script.asked(), [Asked::Credential, Asked::Credential]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_token_waits_five_seconds_and_learns_why() {
    let (_script, tokens) = start((0..100).map(|_| refused()).collect());
    let started = Instant::now();
    let trouble = tokens
        .live()
        .await
        .err()
        .expect("no token")
        .expect("a reason");
    assert_eq!(started.elapsed(), PATIENCE);
    assert!(matches!(trouble, Trouble::Refused { status: 401, .. }));
    assert!(!tokens.ready());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_asked_about_ever_more_rarely_and_never_given_up() {
    let (script, tokens) = start((0..60).map(|_| refused()).collect());
    sleep(seconds(600)).await;
    let times = script.times();
    assert!(times.len() < 85, "{} in ten minutes", times.len());
    for pair in times.windows(2).skip(8) {
        let pause = pair[1] - pair[0];
        assert!(
            (MAX_PAUSE / 2..=MAX_PAUSE + seconds(1)).contains(&pause),
            "{pause:?}"
        );
    }
    sleep(seconds(900)).await;
    assert!(tokens.ready(), "it is let in again, and noticed");
}

#[tokio::test(start_paused = true)]
async fn a_token_survives_a_gateway_that_is_away_for_a_minute() {
    let mut answers = vec![granted("first", 300)];
    answers.extend((0..5).map(|_| away()));
    let (script, tokens) = start(answers);
    for _ in 0..290 {
        assert!(tokens.live().await.is_ok(), "in use while it lives");
        sleep(seconds(1)).await;
    }
    let asked = script.asked();
    assert_eq!(asked[1..7], vec![Asked::Token("first".to_owned()); 6]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_falls_back_to_the_credential_at_once() {
    let (script, tokens) = start(vec![granted("first", 300), refused(), granted("next", 300)]);
    sleep(seconds(205)).await;
    let live = tokens.live().await.expect("a token");
    assert_eq!(token(&live), "next");
    let expected = [
        Asked::Credential,
        Asked::Token("first".to_owned()),
        Asked::Credential,
    ];
    assert_eq!(script.asked(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_run_out_is_used_for_nothing() {
    let mut answers = vec![granted("first", 60)];
    answers.extend((0..30).map(|_| away()));
    let (script, tokens) = start(answers);
    sleep(seconds(61)).await;
    assert!(!tokens.ready());
    assert!(tokens.live().await.is_err());
    sleep(seconds(30)).await;
    assert_eq!(script.asked().last(), Some(&Asked::Credential));
}

#[tokio::test(start_paused = true)]
async fn a_doubted_token_is_replaced_soon_but_not_as_often_as_it_is_doubted() {
    let (script, tokens) = start(vec![granted("first", 300), refused(), refused()]);
    let first = tokens.first().await;
    for _ in 0..100 {
        tokens.doubt(&first);
        sleep(Duration::from_millis(10)).await;
    }
    sleep(seconds(10)).await;
    let next = tokens.first().await;
    assert_eq!(
        token(&next),
        "t4",
        "renewal and exchange refused once, then given"
    );
    // An answer that was on its way since says nothing about the new token.
    tokens.doubt(&first);
    sleep(seconds(20)).await;
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_brings_a_new_token_on_new_connections() {
    let (script, tokens) = start(vec![]);
    let first = tokens.first().await;
    *script.others.lock().expect("whole") = Some(nowhere());
    sleep(seconds(205)).await;
    let next = tokens.first().await;
    assert!(!Arc::ptr_eq(&first.link, &next.link));
    assert_eq!(script.asked(), [Asked::Credential, Asked::Credential]);
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_credential_has_ended_is_taken_along_to_new_connections() {
    let (script, tokens) = start(vec![granted("a", 300), refused(), granted("b", 300)]);
    let first = tokens.live().await.expect("a token");
    let other = nowhere();
    *script.others.lock().expect("whole") = Some(Arc::clone(&other));
    sleep(seconds(201)).await;
    let second = tokens.live().await.expect("a token");
    assert_eq!((token(&first), token(&second)), ("a", "b"));
    assert!(Arc::ptr_eq(&second.link, &other));
    let tried = Asked::Token("a".to_owned());
    assert_eq!(
        script.asked(),
        [Asked::Credential, Asked::Credential, tried]
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_is_believed_who_says_that_a_token_lives_for_hours() {
    let (script, _tokens) = start(vec![granted("first", 86_400)]);
    sleep(seconds(205)).await;
    assert_eq!(script.asked().len(), 2);
}
