//! The mock speaks each dialect as its provider does, keeps its own bill, and lies when told to.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "the helpers of a test fail the test, and a table of inputs stands beside what is expected"
)]

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_loadtest::mock::{Billed, Mock, Outcome};

/// Posts with the steering `words` and returns content type and body.
async fn post(mock: &Mock, path: &str, words: &str, body: &Value) -> (String, Bytes) {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post(path)
        .header("x-mock", words)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let content_type = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(answer.status(), 200, "{path}");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (content_type, body)
}

async fn start() -> Mock {
    Mock::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

const CLAUDE: &str = "anthropic.claude-3-haiku-20240307-v1%3A0";

#[tokio::test]
async fn plain_answers_state_their_usage_where_the_provider_does() {
    let mock = start().await;
    let claude = format!("/model/{CLAUDE}/invoke");
    for (path, words, body, places) in [
        (
            "/v1/completions",
            "",
            json!({}),
            ["/usage/prompt_tokens", "/usage/completion_tokens"],
        ),
        (
            "/chat/completions",
            "",
            json!({}),
            [
                "/usage/prompt_cache_miss_tokens",
                "/usage/completion_tokens",
            ],
        ),
        (
            "/v1/images/generations",
            "",
            json!({"model": "gpt-image-1"}),
            ["/usage/input_tokens", "/usage/output_tokens"],
        ),
        (
            "/v1/audio/transcriptions",
            "",
            json!({"model": "gpt-4o-transcribe"}),
            ["/usage/input_tokens", "/usage/output_tokens"],
        ),
        (
            "/openai/deployments/d/chat/completions",
            "",
            json!({}),
            ["/usage/prompt_tokens", "/usage/completion_tokens"],
        ),
        (
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "",
            json!({}),
            [
                "/usageMetadata/promptTokenCount",
                "/usageMetadata/candidatesTokenCount",
            ],
        ),
        (
            "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
            "",
            json!({}),
            [
                "/usageMetadata/promptTokenCount",
                "/usageMetadata/candidatesTokenCount",
            ],
        ),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict",
            "",
            json!({}),
            ["/usage/input_tokens", "/usage/output_tokens"],
        ),
        (
            "/model/amazon.nova-lite-v1:0/converse",
            "",
            json!({}),
            ["/usage/inputTokens", "/usage/outputTokens"],
        ),
        (
            claude.as_str(),
            "",
            json!({}),
            ["/usage/input_tokens", "/usage/output_tokens"],
        ),
        (
            "/model/meta.llama3-8b-instruct-v1:0/invoke",
            "",
            json!({}),
            ["/prompt_token_count", "/generation_token_count"],
        ),
        (
            "/v2/chat",
            "",
            json!({}),
            [
                "/usage/billed_units/input_tokens",
                "/usage/billed_units/output_tokens",
            ],
        ),
        (
            "/api/chat",
            "",
            json!({"stream": false}),
            ["/prompt_eval_count", "/eval_count"],
        ),
        (
            "/v1/chat/completions",
            "as-mistral,",
            json!({}),
            ["/usage/prompt_tokens", "/usage/completion_tokens"],
        ),
    ] {
        let (_, answer) = post(&mock, path, &format!("{words}usage-100-40"), &body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let stated = places.map(|place| answer.pointer(place).and_then(Value::as_u64));
        assert_eq!(stated, [Some(100), Some(40)], "{path}: {answer}");
        let seen = mock.seen().pop().unwrap();
        let billed = seen.billed.unwrap();
        assert_eq!(
            (billed.input, billed.output, seen.outcome),
            (100, 40, Outcome::Sent),
            "{path}"
        );
    }
}

#[tokio::test]
async fn streams_state_their_usage_where_the_provider_does() {
    let mock = start().await;
    let stream = json!({"stream": true});
    let asked = json!({"stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    for (path, words, body, times, sign) in [
        (
            "/v1/chat/completions",
            "as-mistral",
            &stream,
            1,
            "\"num_cached_tokens\"",
        ),
        (
            "/v1/chat/completions",
            "as-xai",
            &stream,
            1,
            "\"cost_in_usd_ticks\":3300000",
        ),
        (
            "/v1/chat/completions",
            "as-vllm",
            &asked,
            7,
            "\"choices\":[],",
        ),
        (
            "/openai/v1/chat/completions",
            "",
            &stream,
            1,
            "\"x_groq\":{\"id\":",
        ),
        (
            "/api/v1/chat/completions",
            "",
            &stream,
            1,
            ": OPENROUTER PROCESSING\n\n",
        ),
        (
            "/openai/deployments/d/chat/completions",
            "",
            &asked,
            7,
            "\"prompt_filter_results\"",
        ),
        ("/v1/completions", "", &asked, 1, "\"text_completion\""),
        (
            "/v1beta/models/g:streamGenerateContent?alt=sse",
            "",
            &json!({}),
            4,
            "data: {\"candidates\"",
        ),
        (
            "/v1beta/models/g:streamGenerateContent",
            "",
            &json!({}),
            4,
            "[{\"candidates\"",
        ),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict",
            "",
            &stream,
            2,
            "event: message_stop\n",
        ),
        ("/v2/chat", "", &stream, 1, "event: message-end\n"),
        ("/api/chat", "", &json!({}), 1, "\"done\":true"),
        (
            "/v1/images/generations",
            "",
            &stream,
            1,
            "event: image_generation.completed\n",
        ),
        (
            "/v1/audio/transcriptions",
            "",
            &stream,
            1,
            "transcript.text.done",
        ),
    ] {
        let (_, answer) = post(&mock, path, words, body).await;
        let text = String::from_utf8(answer.to_vec()).unwrap();
        assert!(text.contains(sign), "{path}: {text}");
        let stating = ["\"usage\":{", "\"usageMetadata\":{", "\"eval_count\":"];
        let found = stating
            .iter()
            .map(|name| text.matches(name).count())
            .sum::<usize>();
        assert_eq!(found, times, "{path}: {text}");
    }
    let (_, array) = post(&mock, "/v1/models/g:streamGenerateContent", "", &json!({})).await;
    assert_eq!(
        serde_json::from_slice::<Vec<Value>>(&array).unwrap().len(),
        4
    );
}

/// The names and payloads of Amazon's frames, each of whose checksums must hold.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (total, headers) = (word(0) as usize, word(4) as usize);
        assert_eq!(word(8), crc32fast::hash(&bytes[..8]));
        assert_eq!(word(total - 4), crc32fast::hash(&bytes[..total - 4]));
        let head = String::from_utf8_lossy(&bytes[12..12 + headers]).into_owned();
        let payload = serde_json::from_slice(&bytes[12 + headers..total - 4]).unwrap();
        frames.push((head, payload));
        bytes = &bytes[total..];
    }
    frames
}

#[tokio::test]
async fn amazons_frames_hold_and_carry_usage_last() {
    let mock = start().await;
    let words = "usage-100-40,cached-7";
    let path = format!("/model/{CLAUDE}/converse-stream");
    let (content_type, bytes) = post(&mock, &path, words, &json!({})).await;
    assert_eq!(content_type, "application/vnd.amazon.eventstream");
    let (head, payload) = frames(&bytes).pop().unwrap();
    assert!(head.contains("metadata"));
    assert_eq!(payload["usage"]["outputTokens"], 40);
    assert_eq!(payload["usage"]["cacheReadInputTokens"], 7);
    assert_eq!(
        mock.seen()[0].billed.unwrap().input,
        107,
        "the cache counts beside"
    );

    for model in [CLAUDE, "amazon.nova-lite-v1:0"] {
        let path = format!("/model/{model}/invoke-with-response-stream");
        let (_, bytes) = post(&mock, &path, words, &json!({})).await;
        let (head, payload) = frames(&bytes).pop().unwrap();
        assert!(head.contains("chunk"));
        let inner = base64::engine::general_purpose::STANDARD
            .decode(payload["bytes"].as_str().unwrap())
            .unwrap();
        let text = String::from_utf8(inner).unwrap();
        assert!(
            text.contains("\"amazon-bedrock-invocationMetrics\""),
            "{text}"
        );
        assert!(text.contains("\"outputTokenCount\":40"), "{text}");
    }

    let path = format!("/model/{CLAUDE}/converse-stream");
    let (_, bytes) = post(&mock, &path, "error-after-2", &json!({})).await;
    let (head, _) = frames(&bytes).pop().unwrap();
    assert!(head.contains(":exception-type") && head.contains("internalServerException"));
}

#[tokio::test]
async fn what_counts_on_top_is_billed_on_top() {
    let mock = start().await;
    let words = "usage-100-40,cached-10,cache-write-5,reasoning-3";
    for (path, input, output) in [
        ("/v1/chat/completions", 100, 40),
        ("/v1/messages", 115, 40),
        ("/v1beta/models/g:generateContent", 100, 43),
        ("/model/m/converse", 115, 40),
    ] {
        post(&mock, path, words, &json!({})).await;
        let billed = mock.seen().pop().unwrap().billed.unwrap();
        assert_eq!((billed.input, billed.output), (input, output), "{path}");
        assert_eq!(
            (billed.cached, billed.cache_write, billed.reasoning),
            (10, 5, 3),
            "{path}"
        );
    }
    post(&mock, "/v1/messages/count_tokens", "", &json!({})).await;
    assert_eq!(mock.seen().pop().unwrap().billed, None, "counting is free");
}

#[tokio::test]
async fn what_is_not_a_token_is_billed_in_its_own_unit() {
    let mock = start().await;
    let documents = vec!["d"; 150];
    for (path, body, billed) in [
        (
            "/v1/audio/speech",
            json!({"model": "tts-1", "input": "größer"}),
            Billed {
                characters: 6,
                ..Billed::default()
            },
        ),
        (
            "/v1/audio/transcriptions",
            json!({"model": "whisper-1"}),
            Billed {
                audio_ms: 29_000,
                ..Billed::default()
            },
        ),
        (
            "/v2/rerank",
            json!({"documents": documents}),
            Billed {
                searches: 2,
                ..Billed::default()
            },
        ),
        (
            "/v1/ocr",
            json!({}),
            Billed {
                pages: 7,
                ..Billed::default()
            },
        ),
    ] {
        post(&mock, path, "", &body).await;
        assert_eq!(mock.seen().pop().unwrap().billed, Some(billed), "{path}");
    }
}

#[tokio::test]
async fn lies_take_the_place_of_counts_and_of_nothing_else() {
    let mock = start().await;
    for path in [
        "/v1/chat/completions",
        "/v1beta/models/g:generateContent",
        "/v2/chat",
        "/model/m/converse",
    ] {
        let (_, honest) = post(&mock, path, "usage-100-40", &json!({})).await;
        let honest = String::from_utf8(honest.to_vec()).unwrap();
        assert!(
            honest.contains(":100") && honest.contains(":40"),
            "{honest}"
        );
        for (word, sign) in [
            ("usage=negative", ":-40"),
            ("usage-nan", ":NaN"),
            ("usage-huge", ":9223372036854775808"),
            ("usage-text", ":\"40\""),
            ("usage-fraction", ":40.5"),
        ] {
            let words = format!("usage-100-40,{word}");
            let (_, answer) = post(&mock, path, &words, &json!({})).await;
            let answer = String::from_utf8(answer.to_vec()).unwrap();
            assert!(answer.contains(sign), "{path} {word}: {answer}");
            assert!(answer.contains("All is well"), "{path} {word}: {answer}");
            assert_eq!(
                mock.seen().pop().unwrap().billed.unwrap().output,
                40,
                "the bill is honest"
            );
        }
        let (_, answer) = post(&mock, path, "no-usage", &json!({})).await;
        assert!(
            !String::from_utf8(answer.to_vec())
                .unwrap()
                .contains("\"usage"),
            "{path}"
        );
    }
    let ask = json!({"stream": true, "max_tokens": 9});
    let (_, answer) = post(&mock, "/v1/messages", "usage-misplaced", &ask).await;
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let stating: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\"usage\""))
        .collect();
    assert!(
        matches!(stating[..], [only] if only.contains("content_block_start")),
        "{stating:?}"
    );
}

#[tokio::test]
async fn forms_are_read_like_json() {
    let mock = start().await;
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nmodel\r\n\
                --b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                --b\r\ncontent-disposition: form-data; name=\"user\"\r\n\r\nmock-chunks-2\r\n--b--\r\n";
    let request = Request::post("/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Full::new(Bytes::from(form)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["usage"], json!({"type": "duration", "seconds": 29}));
}
