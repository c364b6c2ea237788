//! Which call comes with which number, and its request.
//!
//! A number and a seed tell everything about a call, so that the same settings make the same calls
//! on however many threads. Keys are secrets: they are told apart by their number only.

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::args::{KeyOrder, LoadArgs, Weighted};
use super::dialect::Dialect;
use super::target::Target;
use crate::proof::chance::Chance;

/// What prompts are made of.
const PROSE: &str = "Tell me about toll gates. ";

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) dialect: Dialect,
    pub(super) streamed: bool,
    prompt_bytes: u64,
    /// The place of its key among the keys.
    pub(super) key: usize,
    /// The place of its language among the languages.
    place: usize,
}

/// A language as this target speaks it.
#[derive(Debug)]
struct Spoken {
    weight: f64,
    dialect: Dialect,
    uri: Uri,
    /// For each key, or once if there is none.
    headers: Vec<HeaderMap>,
    /// What stands around the prompt: in plain calls, in streamed ones.
    around: [(String, &'static str); 2],
}

/// All that calls are chosen from.
#[derive(Debug)]
pub(super) struct Mix {
    spoken: Vec<Spoken>,
    weights: f64,
    stream_share: f64,
    sizes: Vec<(u64, u64)>,
    pub(super) keys: usize,
    key_order: KeyOrder,
    seed: u64,
    prose: String,
}

impl Mix {
    /// Reads what calls shall be like.
    ///
    /// # Errors
    /// If a key, a header or a path cannot be sent, or a share is none.
    pub(super) fn read(args: &LoadArgs, target: &Target, keys: &[String]) -> anyhow::Result<Self> {
        ensure!(
            (0.0..=1.0).contains(&args.stream_share),
            "--stream-share is between 0 and 1"
        );
        let mut more = Vec::new();
        for header in &args.header {
            let (name, value) = header
                .split_once(':')
                .context("a --header is `name: value`")?;
            let name: HeaderName = name.trim().parse().context("a --header has no good name")?;
            let value: HeaderValue = value
                .trim()
                .parse()
                .context("a --header has no good value")?;
            more.push((name, value));
        }
        let spoken = args
            .dialect
            .iter()
            .map(|weighted| Spoken::read(args, target, *weighted, keys, &more));
        let spoken: Vec<Spoken> = spoken.collect::<anyhow::Result<_>>()?;
        let longest = args
            .prompt_bytes
            .0
            .iter()
            .map(|range| range.1)
            .max()
            .unwrap_or(0);
        Ok(Self {
            weights: spoken.iter().map(|spoken| spoken.weight).sum(),
            spoken,
            stream_share: args.stream_share,
            sizes: args.prompt_bytes.0.clone(),
            keys: keys.len(),
            key_order: args.key_order,
            seed: args.seed,
            prose: PROSE.repeat(usize::try_from(longest)? / PROSE.len() + 1),
        })
    }

    /// The call with this number.
    pub(super) fn pick(&self, number: u64) -> Call {
        let mut chance = Chance::of(self.seed, number);
        let mut at = chance.share() * self.weights;
        let reached = |spoken: &Spoken| {
            at -= spoken.weight;
            at < 0.0
        };
        let place = self.spoken.iter().position(reached).unwrap_or(0);
        let (low, high) = chance.pick(&self.sizes).copied().unwrap_or_default();
        let keys = self.keys.max(1) as u64;
        let key = match self.key_order {
            KeyOrder::Turn => number % keys,
            KeyOrder::Random => chance.between(0, keys - 1),
        };
        Call {
            number,
            dialect: self
                .spoken
                .get(place)
                .map_or(Dialect::Chat, |spoken| spoken.dialect),
            prompt_bytes: chance.between(low, high),
            streamed: chance.share() < self.stream_share,
            key: usize::try_from(key).unwrap_or(0),
            place,
        }
    }

    /// Its request; nothing if it is not one of this mix.
    pub(super) fn request(&self, call: &Call) -> Option<Request<Full<Bytes>>> {
        let spoken = self.spoken.get(call.place)?;
        let [plain, streamed] = &spoken.around;
        let (before, behind) = if call.streamed { streamed } else { plain };
        // No two prompts begin alike, so that nobody answers from a cache of prompts or answers.
        let first = format!("[{}.{}] ", self.seed, call.number);
        let prose = usize::try_from(call.prompt_bytes)
            .ok()?
            .saturating_sub(first.len());
        let mut body = BytesMut::with_capacity(before.len() + first.len() + prose + behind.len());
        body.put_slice(before.as_bytes());
        body.put_slice(first.as_bytes());
        body.put_slice(self.prose.as_bytes().get(..prose)?);
        body.put_slice(behind.as_bytes());
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = spoken.uri.clone();
        *request.headers_mut() = spoken.headers.get(call.key)?.clone();
        Some(request)
    }
}

impl Spoken {
    fn read(
        args: &LoadArgs,
        target: &Target,
        Weighted { dialect, weight }: Weighted,
        keys: &[String],
        more: &[(HeaderName, HeaderValue)],
    ) -> anyhow::Result<Self> {
        let path = format!("{}{}", base(args, target, dialect), dialect.path());
        let model = match dialect {
            Dialect::Messages => &args.anthropic_model,
            Dialect::Chat | Dialect::Responses => &args.model,
        };
        let host = HeaderValue::from_str(&target.authority)?;
        let with_key = |key: Option<&str>| -> anyhow::Result<HeaderMap> {
            // The error of a bad value does not show it.
            let mut headers = dialect
                .headers(key)
                .context("a key that no header can carry")?;
            headers.insert(HOST, host.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
            headers.insert(USER_AGENT, HeaderValue::from_static("tollgate-loadtest"));
            for (name, value) in more {
                headers.insert(name, value.clone());
            }
            Ok(headers)
        };
        let headers = if keys.is_empty() {
            vec![with_key(None)?]
        } else {
            keys.iter()
                .map(|key| with_key(Some(key)))
                .collect::<anyhow::Result<_>>()?
        };
        Ok(Self {
            weight,
            dialect,
            uri: path
                .parse()
                .with_context(|| format!("{path:?} is no path"))?,
            headers,
            around: [false, true].map(|streamed| dialect.around(model, streamed, args.max_tokens)),
        })
    }
}

/// The path of the API that the language belongs to.
fn base(args: &LoadArgs, target: &Target, dialect: Dialect) -> String {
    let (told, tollgate) = match dialect {
        Dialect::Messages => (&args.anthropic_base, "/anthropic/v1"),
        Dialect::Chat | Dialect::Responses => (&args.openai_base, "/openai/v1"),
    };
    match told {
        Some(base) => format!("/{}", base.trim_matches('/')),
        None if args.tollgate => format!("{}{tollgate}", target.path),
        None if target.path.is_empty() => "/v1".to_owned(),
        None => target.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn mix(words: &str, keys: &[&str]) -> anyhow::Result<Mix> {
        let words = std::iter::once("load").chain(words.split_whitespace());
        let args = Cli::try_parse_from(words)?.args;
        let target = Target::read(&args.target, false, None)?;
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Mix::read(&args, &target, &keys)
    }

    #[test]
    fn shares_are_kept_and_the_same_seed_makes_the_same_calls() {
        let words = "http://127.0.0.1 --dialect chat=3,messages=1 --stream-share 0.3 --prompt-bytes 500,2000-3000";
        let mix_of = |seed| mix(&format!("{words} --seed {seed}"), &[]).unwrap();
        let calls =
            |mix: &Mix| -> Vec<Call> { (0..10_000).map(|number| mix.pick(number)).collect() };
        let some = calls(&mix_of(1));
        let count =
            |wanted: &dyn Fn(&Call) -> bool| some.iter().filter(|call| wanted(call)).count();
        assert!((2_300..2_700).contains(&count(&|call| call.dialect == Dialect::Messages)));
        assert!((2_800..3_200).contains(&count(&|call| call.streamed)));
        assert!((4_800..5_200).contains(&count(&|call| call.prompt_bytes == 500)));
        assert!(
            some.iter()
                .all(|call| call.prompt_bytes == 500 || (2000..=3000).contains(&call.prompt_bytes))
        );
        assert_eq!(some, calls(&mix_of(1)));
        assert_ne!(some, calls(&mix_of(2)));
    }

    #[tokio::test]
    async fn a_request_carries_its_key_its_prompt_and_the_path_of_its_language() {
        let mix = mix(
            "http://127.0.0.1:81 --tollgate --dialect messages --prompt-bytes 100 --stream-share 1 --header x-a:b",
            &["sk-canary-1", "sk-canary-2"],
        );
        let mix = mix.unwrap();
        let call = mix.pick(1);
        let request = mix.request(&call).unwrap();
        assert_eq!(request.uri(), "/anthropic/v1/messages");
        assert_eq!(
            (call.key, &request.headers()["x-api-key"]),
            (1, &HeaderValue::from_static("sk-canary-2"))
        );
        assert_eq!(
            (&request.headers()["host"], &request.headers()["x-a"]),
            (&"127.0.0.1:81".parse().unwrap(), &"b".parse().unwrap())
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        assert_eq!((prompt.len(), &body["stream"]), (100, &true.into()));
        assert!(prompt.starts_with("[1.1] "));
    }

    #[test]
    fn paths_follow_the_url_unless_told_otherwise() {
        for (words, expected) in [
            ("http://127.0.0.1", "/v1/chat/completions"),
            ("http://127.0.0.1/openai/v1/", "/openai/v1/chat/completions"),
            ("http://127.0.0.1 --tollgate", "/openai/v1/chat/completions"),
            (
                "http://127.0.0.1/x --openai-base api/v2",
                "/api/v2/chat/completions",
            ),
            (
                "http://127.0.0.1 --anthropic-base /a/ --dialect messages",
                "/a/messages",
            ),
        ] {
            let mix = mix(words, &[]).unwrap();
            assert_eq!(
                mix.request(&mix.pick(0)).unwrap().uri(),
                expected,
                "{words}"
            );
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_shown() {
        let error = mix("http://127.0.0.1", &["sk-canary-\n"]).unwrap_err();
        assert!(!format!("{error:#}").contains("canary"), "{error:#}");
        let error = mix("http://127.0.0.1 --header sk-canary-1", &[]).unwrap_err();
        assert!(!format!("{error:#}").contains("canary"), "{error:#}");
        assert!(mix("http://127.0.0.1 --stream-share 1.5", &[]).is_err());
    }
}
