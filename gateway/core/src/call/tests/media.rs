//! Pictures, speech and what comes in forms.

use super::*;

fn form(fields: &[(&str, &str)], file: &str, bytes: usize) -> Vec<u8> {
    let mut body = String::new();
    for (name, value) in fields {
        body +=
            &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += &format!(
        "--b\r\nContent-Disposition: form-data; name=\"{file}\"; filename=\"f\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(bytes)
    );
    body.into_bytes()
}

fn read(operation: Operation, body: &[u8]) -> Result<Ask, Refusal> {
    let request = Request {
        content_type: Some("multipart/form-data; boundary=b"),
        ..Request::json(body)
    };
    Ask::parse(operation, &request)
}

fn refused(operation: Operation, fields: &[(&str, &str)], file: &str) -> &'static str {
    read(operation, &form(fields, file, 1))
        .expect_err("a refusal")
        .code()
}

#[test]
fn an_image_edit_is_read_from_its_form() {
    let fields = [
        ("model", "gpt-image-1"),
        ("prompt", "a\r\nhat"),
        ("n", "3"),
        ("size", "1024x1024"),
        ("stream", "true"),
        ("partial_images", "2"),
    ];
    let ask = read(Operation::ImageEdits, &form(&fields, "image[]", 9)).expect("an ask");
    assert_eq!(ask.model.as_str(), "gpt-image-1");
    assert_eq!(
        (ask.choices, ask.stream, ask.input),
        (3, true, Input::Referenced)
    );
    // OpenAI states 4,160 tokens for this size at its finest, and 100 for each unfinished one.
    let most = ask.max_output_tokens.expect("a bound");
    assert!((4_160 + 200..8_000).contains(&most), "{most}");
}

#[test]
fn an_image_is_bounded_by_its_size() {
    let image = |rest: &str| {
        let body = format!(r#"{{"model":"gpt-image-1","prompt":"x"{rest}}}"#);
        parse(Operation::ImageGenerations, &body).expect("an ask")
    };
    let most = |rest: &str| image(rest).max_output_tokens.expect("a bound");
    // The dearest picture that the model makes has 6,240 tokens.
    assert!((6_240..9_000).contains(&most("")));
    assert_eq!(most(r#","size":"auto""#), most(r#","size":"1536x1024""#));
    assert!(most(r#","size":"1024x1024""#) < most(""));
    assert!(
        most(r#","size":"odd""#) > most(""),
        "what is not known is large"
    );
    assert_eq!(image(r#","n":4,"background":"opaque""#).choices, 4);
    assert_eq!(image("").input, Input::Bounded);
    assert_eq!(image(r#","image":"https://x""#).input, Input::Referenced);
}

#[test]
fn audio_is_as_long_as_its_bytes_allow() {
    let audio = |bytes: usize| {
        let body = form(&[("model", "whisper-1"), ("language", "de")], "file", bytes);
        read(Operation::Transcriptions, &body).expect("an ask")
    };
    // 6 kbit/s are 750 bytes a second.
    assert_eq!(audio(750_000).most.audio_ms, 1_000_000);
    assert_eq!(audio(1).most.audio_ms, 10_000, "billed at least");
    assert_eq!(audio(1).input, Input::Referenced);
    let fetched = form(&[("model", "m"), ("url", "https://x/a.mp3")], "ignored", 1);
    let ask = read(Operation::Transcriptions, &fetched).expect("an ask");
    assert!(
        ask.most.audio_ms > 100_000_000,
        "a file of 100 MB may be behind it"
    );
}

#[test]
fn a_form_that_is_unclear_about_its_cost_is_refused() {
    for operation in [Operation::ImageEdits, Operation::Transcriptions] {
        for (fields, code) in [
            (&[("n", "1")][..], "missing_model"),
            (&[("model", "")], "missing_model"),
            (&[("model", "a"), ("model", "b")], "invalid_form"),
            (&[("model", "a"), ("MODEL", "b")], "invalid_form"),
            (&[("model", "a"), ("stream", "1")], "invalid_form"),
            (
                &[("model", "a"), ("stream", "true"), ("stream", "false")],
                "invalid_form",
            ),
        ] {
            assert_eq!(refused(operation, fields, "file"), code, "{fields:?}");
        }
    }
    for n in ["-1", "1e3", "0x9", "1.0", "٣"] {
        let fields = [("model", "m"), ("n", n)];
        assert_eq!(
            refused(Operation::ImageEdits, &fields, "image"),
            "invalid_form",
            "{n}"
        );
    }
    let json = parse(Operation::Transcriptions, r#"{"model":"m"}"#).expect_err("no form");
    assert_eq!(json.code(), "invalid_form");
    let two = form(&[("model", "m")], "file", 1);
    let two = [&two[..two.len() - 7], &form(&[], "file", 9)[..]].concat();
    assert!(read(Operation::Transcriptions, &two).is_err(), "two files");
}

#[test]
fn speech_is_counted_in_characters_not_in_bytes() {
    let speech = |input: &str| {
        let body = format!(r#"{{"model":"tts-1","voice":"alloy","input":{input}}}"#);
        parse(Operation::Speech, &body)
    };
    for (input, characters) in [
        (r#""abc""#, 3),
        ("\"\u{1f600}\u{e9}\"", 2),
        (r#""\ud83d\ude00\u00e9\n""#, 3),
        (r#""""#, 0),
    ] {
        assert_eq!(
            speech(input).expect("an ask").most.characters,
            characters,
            "{input}"
        );
    }
    for bad in ["null", "1", "[]"] {
        assert!(speech(bad).is_err(), "{bad}");
    }
}
