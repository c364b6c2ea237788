use super::*;

fn upload(purpose: &str, file: &str) -> Vec<u8> {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\
         Content-Type: application/jsonl\r\n\r\n{file}\r\n--b--\r\n"
    )
    .into_bytes()
}

fn input(file: &str) -> Result<BatchFile, Refusal> {
    read_batch_input(
        Some("multipart/form-data; boundary=b"),
        &upload("batch", file),
    )
}

fn line(id: &str, url: &str, body: &str) -> String {
    format!(r#"{{"custom_id":"{id}","method":"POST","url":"{url}","body":{body}}}"#)
}

#[test]
fn every_message_of_a_batch_is_read_as_its_own_call() {
    let asks = read_message_batch(
        br#"{"requests":[
            {"custom_id":"a","params":{"model":"m","max_tokens":7}},
            {"custom_id":"b","params":{"model":"n","max_tokens":9,"service_tier":"auto"}}]}"#,
    )
    .expect("a batch");
    let read: Vec<_> = asks
        .iter()
        .map(|ask| (ask.model.as_str(), ask.max_output_tokens))
        .collect();
    assert_eq!(read, [("m", Some(7)), ("n", Some(9))]);
    for ask in asks {
        assert_eq!(ask.operation, Operation::Messages);
        assert_eq!(ask.terms.processing.as_deref(), Some("batch"));
        assert!(ask.deferred, "its usage comes with the results");
    }
}

#[test]
fn a_batch_with_one_unreadable_call_is_refused() {
    for (body, code) in [
        ("{}", "invalid_field"),
        (r#"{"requests":{}}"#, "invalid_field"),
        (r#"{"requests":[{"custom_id":"a"}]}"#, "invalid_field"),
        (
            r#"{"requests":[{"params":{"model":"m"}}]}"#,
            "invalid_field",
        ),
        (
            r#"{"requests":[{"custom_id":"a","params":{"model":"m"}},{"custom_id":"\u0061","params":{"model":"m"}}]}"#,
            "invalid_field",
        ),
        (
            r#"{"requests":[{"custom_id":"a","params":{"max_tokens":1}}]}"#,
            "missing_model",
        ),
        (
            r#"{"requests":[{"custom_id":"a","params":{"model":"m","max_tokens":1,"max_tokens":9}}]}"#,
            "duplicate_field",
        ),
        (
            r#"{"requests":[],"requests":[{"custom_id":"a"}]}"#,
            "duplicate_field",
        ),
    ] {
        let refused = read_message_batch(body.as_bytes()).expect_err("a refusal");
        assert_eq!(refused.code(), code, "{body}");
    }
}

#[test]
fn every_line_of_an_uploaded_batch_is_read_by_its_url() {
    let lines = [
        line(
            "a",
            "/v1/chat/completions",
            r#"{"model":"m","max_tokens":5,"n":3}"#,
        ),
        line("b", "/v1/embeddings", r#"{"model":"e","input":"x"}"#),
        line(
            "c",
            "/v1/responses",
            r#"{"model":"r","max_output_tokens":6}"#,
        ),
        line("d", "/v1/moderations", r#"{"input":"x"}"#),
        line(
            "e",
            "/v1/completions",
            r#"{"model":"c","prompt":["x","y"]}"#,
        ),
    ];
    for separator in ["\n", "\r\n", "\n\n"] {
        let BatchFile::Batch(asks) = input(&lines.join(separator)).expect("a batch") else {
            panic!("it is a batch");
        };
        let read: Vec<_> = asks
            .iter()
            .map(|ask| (ask.operation, ask.max_output_tokens, ask.choices))
            .collect();
        assert_eq!(
            read,
            [
                (Operation::ChatCompletions, Some(5), 3),
                (Operation::Embeddings, Some(0), 1),
                (Operation::Responses, Some(6), 1),
                (Operation::Completions, None, 2),
            ]
        );
        assert!(
            asks.iter()
                .all(|ask| ask.deferred && ask.terms.processing.as_deref() == Some("batch"))
        );
    }
}

#[test]
fn a_line_that_is_priced_by_nothing_known_refuses_the_upload() {
    let good = line("a", "/v1/embeddings", r#"{"model":"e","input":"x"}"#);
    for (bad, code) in [
        (line("b", "/v1/videos", r#"{"model":"m"}"#), "invalid_field"),
        (line("b", "/v1/chat/completions/", r#"{"model":"m"}"#), "invalid_field"),
        (line("a", "/v1/embeddings", r#"{"model":"m"}"#), "invalid_field"),
        (r#"{"custom_id":"b","body":{"model":"m"}}"#.to_owned(), "invalid_field"),
        (line("b", "/v1/embeddings", "[]"), "invalid_json"),
        (format!("{good} {good}"), "invalid_json"),
        ("{".to_owned(), "invalid_json"),
        (
            r#"{"custom_id":"b","url":"/v1/embeddings","url":"/v1/responses","body":{"model":"m"}}"#
                .to_owned(),
            "duplicate_field",
        ),
    ] {
        let refused = input(&format!("{good}\n{bad}")).expect_err("a refusal");
        assert_eq!(refused.code(), code, "{bad}");
    }
}

#[test]
fn an_upload_for_another_purpose_is_no_batch_and_an_unclear_one_is_refused() {
    let kind = Some("multipart/form-data; boundary=b");
    let read = |purpose: &str| read_batch_input(kind, &upload(purpose, "%PDF"));
    assert_eq!(read("assistants"), Ok(BatchFile::NotABatch));
    assert_eq!(read("batch").expect_err("no JSON").code(), "invalid_json");
    assert_eq!(read(" batch").expect_err("unclear").code(), "invalid_form");
    assert_eq!(
        read("x\r\n--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch")
            .expect_err("twice")
            .code(),
        "invalid_form"
    );
}

#[test]
fn a_batch_starts_from_one_named_file() {
    let start = |body: &str| read_batch_start(body.as_bytes());
    assert_eq!(
        start(r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#),
        Ok("file-1".to_owned())
    );
    for body in [
        "{}",
        r#"{"input_file_id":null}"#,
        r#"{"input_file_id":""}"#,
        r#"{"input_file_id":1}"#,
        r#"{"input_file_id":"a","input_file_id":"b"}"#,
    ] {
        assert!(start(body).is_err(), "{body}");
    }
}

#[test]
fn a_batch_of_very_many_models_is_refused() {
    for (models, fits) in [(MAX_MODELS, true), (MAX_MODELS + 1, false)] {
        let lines: Vec<String> = (0..models * 2)
            .map(|n| {
                let body = format!(r#"{{"model":"m{}"}}"#, n % models);
                line(&n.to_string(), "/v1/chat/completions", &body)
            })
            .collect();
        assert_eq!(input(&lines.join("\n")).is_ok(), fits, "{models} models");
        let requests: Vec<String> = (0..models)
            .map(|n| format!(r#"{{"custom_id":"{n}","params":{{"model":"m{n}","max_tokens":1}}}}"#))
            .collect();
        let body = format!(r#"{{"requests":[{}]}}"#, requests.join(","));
        let read = read_message_batch(body.as_bytes());
        assert_eq!(read.is_ok(), fits, "{models} models");
    }
}
