//! What single dialects say, in the words of their references.

use super::*;

fn exact(reading: &Reading) -> Usage {
    match reading.metered {
        Metered::Exact(usage) => usage,
        _ => panic!("usage is whole: {reading:?}"),
    }
}

#[test]
fn usage_on_a_chunk_with_text_is_relayed_and_final_only_once_the_stream_is_done() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\
        \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
    let meter = meter(Operation::ChatCompletions, true, true);
    let (relayed, reading) = run(meter, [event.as_bytes()]);
    assert_eq!(relayed, event.as_bytes());
    assert!(matches!(reading.metered, Metered::Partial(_)));
    let done = format!("{event}data: [DONE]\n\n");
    let reading = read(Operation::ChatCompletions, true, done.as_bytes());
    assert!(matches!(reading.metered, Metered::Exact(usage) if usage.output_tokens == 1));
}

#[test]
fn reasoning_counted_apart_is_added_when_the_total_says_so() {
    let body = br#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,
        "completion_tokens_details":{"reasoning_tokens":20}}}"#;
    let Metered::Exact(usage) = read(Operation::ChatCompletions, false, body).metered else {
        panic!("usage is whole");
    };
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (25, 20));
}

#[test]
fn parts_larger_than_their_whole_are_cut_down() {
    let body = br#"{"usage":{"prompt_tokens":10,"completion_tokens":5,
        "prompt_tokens_details":{"cached_tokens":8,"cache_write_tokens":8,"audio_tokens":99},
        "completion_tokens_details":{"reasoning_tokens":6,"audio_tokens":7}}}"#;
    let Metered::Exact(usage) = read(Operation::ChatCompletions, false, body).metered else {
        panic!("usage is whole");
    };
    assert_eq!(
        (usage.cached_input_tokens, usage.cache_write_tokens),
        (8, 2)
    );
    assert_eq!(
        (usage.input_audio_tokens, usage.cached_audio_tokens),
        (0, 0)
    );
    assert_eq!((usage.reasoning_tokens, usage.output_audio_tokens), (5, 5));
}

fn read_as(operation: Operation, kind: &str, bytes: &[u8]) -> Reading {
    let framing = Framing::of(operation, Some(kind.as_bytes()), false);
    run(Meter::new(operation, framing, false), [bytes]).1
}

fn events(events: &[&str]) -> String {
    events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect()
}

fn read_events(operation: Operation, list: &[&str]) -> Reading {
    read(operation, true, events(list).as_bytes())
}

#[test]
fn usage_that_groq_states_twice_counts_once() {
    let usage = r#"{"prompt_tokens":23,"completion_tokens":19,"total_tokens":42}"#;
    let finish = format!(
        r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"x_groq":{{"usage":{usage}}}}}"#
    );
    let alone = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    let reading = read_events(Operation::ChatCompletions, &[&finish, &alone, "[DONE]"]);
    let usage = exact(&reading);
    assert_eq!((usage.input_tokens, usage.output_tokens), (23, 19));
}

#[test]
fn usage_before_the_text_it_should_count_is_not_final() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}"#;
    let early = format!(r#"{{"choices":[{{"delta":{{"role":"assistant"}}}}],{usage}}}"#);
    let early_alone = format!(r#"{{"choices":[],{usage}}}"#);
    let text = r#"{"choices":[{"delta":{"content":"abc"},"finish_reason":"stop"}]}"#;
    for list in [
        &[early.as_str(), text, "[DONE]"][..],
        &[&early_alone, text, "[DONE]"],
        &[&early_alone],
        &[&early_alone, "{", "[DONE]"],
    ] {
        let reading = read_events(Operation::ChatCompletions, list);
        assert!(
            matches!(reading.metered, Metered::Partial(_)),
            "{list:?}: {reading:?}"
        );
    }
}

#[test]
fn the_usage_chunk_of_a_text_completion_is_taken_out_too() {
    let text = r#"{"choices":[{"text":"ab","finish_reason":"stop"}],"usage":null}"#;
    let alone = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let stream = events(&[text, alone, "[DONE]"]);
    let meter = meter(Operation::Completions, true, true);
    let (relayed, reading) = run(meter, stream.as_bytes().chunks(5));
    assert_eq!(String::from_utf8_lossy(&relayed), events(&[text, "[DONE]"]));
    assert_eq!(exact(&reading).output_tokens, 1);
    assert_eq!(reading.output_bytes, 2);
}

#[test]
fn what_the_total_holds_beyond_input_and_output_is_output() {
    for (usage, output) in [
        (
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":40}"#,
            30,
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#,
            5,
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":3}"#,
            5,
        ),
        (r#"{"prompt_tokens":10,"completion_tokens":5}"#, 5),
    ] {
        let body = format!(r#"{{"usage":{usage}}}"#);
        let reading = read(Operation::ChatCompletions, false, body.as_bytes());
        assert_eq!(exact(&reading).output_tokens, output, "{usage}");
    }
}

#[test]
fn cached_tokens_are_found_under_every_name_that_proves_a_discount() {
    for (fields, cached) in [
        (r#""prompt_tokens_details":{"cached_tokens":4}"#, 4),
        (r#""input_tokens_details":{"cached_tokens":4}"#, 4),
        (
            r#""prompt_tokens_details":null,"prompt_cache_hit_tokens":4"#,
            4,
        ),
        (r#""cached_tokens":4"#, 4),
        (r#""num_cached_tokens":4"#, 0),
    ] {
        let body = format!(r#"{{"usage":{{"prompt_tokens":9,"completion_tokens":1,{fields}}}}}"#);
        let reading = read(Operation::ChatCompletions, false, body.as_bytes());
        assert_eq!(exact(&reading).cached_input_tokens, cached, "{fields}");
    }
}

#[test]
fn a_cost_that_the_provider_states_is_read_to_the_last_digit() {
    for (fields, pico) in [
        (r#""cost":4.1400000000000003e-05"#, Some(41_400_000)),
        (r#""cost":0.0160614,"is_byok":false"#, Some(16_061_400_000)),
        (
            r#""cost":0.001,"is_byok":true,"cost_details":{"upstream_inference_cost":0.02}"#,
            Some(21_000_000_000),
        ),
        (r#""cost":0.001,"is_byok":true,"cost_details":null"#, None),
        (r#""cost":0.001,"is_byok":"yes""#, None),
        (r#""cost":{"total_cost":0.006}"#, Some(6_000_000_000)),
        (r#""cost_in_usd_ticks":232856000"#, Some(23_285_600_000)),
        (r#""cost":-1"#, None),
        (r#""cost":"0.1""#, None),
        (r#""cost":1e30"#, None),
        (r#""cost":null"#, None),
        (r#""cost_in_usd_ticks":-5"#, None),
    ] {
        let body = format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":1,{fields}}}}}"#);
        let reading = read(Operation::ChatCompletions, false, body.as_bytes());
        assert_eq!(reading.reported_cost, pico.map(PicoUsd::new), "{fields}");
        let chunk = format!(r#"{{"choices":[{{}}],{}"#, body.trim_start_matches('{'));
        let reading = read_events(Operation::ChatCompletions, &[&chunk]);
        assert_eq!(reading.reported_cost, None, "more may come: {fields}");
    }
}

#[test]
fn tools_that_xai_counts_itself_replace_the_items() {
    let body = br#"{"status":"completed","output":[{"type":"web_search_call"}],"usage":{
        "input_tokens":5,"output_tokens":2,"total_tokens":7,"cost_in_usd_ticks":100,
        "server_side_tool_usage_details":{"web_search_calls":3,"x_search_calls":4,
        "file_search_calls":0,"document_search_calls":2,"code_interpreter_calls":9}}}"#;
    let reading = read(Operation::Responses, false, body);
    let usage = exact(&reading);
    assert_eq!((usage.web_searches, usage.file_searches), (7, 2));
    assert_eq!(reading.reported_cost, Some(PicoUsd::new(10_000)));
}

#[test]
fn a_response_in_the_background_has_not_been_billed_yet() {
    for (status, metered) in [("queued", false), ("in_progress", false), ("failed", true)] {
        let body = format!(
            r#"{{"status":"{status}","model":"m",
                "usage":{{"input_tokens":1,"output_tokens":1}}}}"#
        );
        let reading = read(Operation::Responses, false, body.as_bytes());
        assert_eq!(matches!(reading.metered, Metered::Exact(_)), metered);
        assert_eq!(reading.response_model.as_deref(), Some("m"));
    }
}

#[test]
fn one_odd_item_of_output_hides_no_search() {
    let body = br#"{"status":"completed","output":[null,7,{"type":3},
        {"type":"web_search_call","action":"?"},{"type":"file_search_call","action":{}}],
        "tool_usage":{"web_search":{"num_requests":-1}},
        "usage":{"input_tokens":1,"output_tokens":1}}"#;
    let usage = exact(&read(Operation::Responses, false, body));
    assert_eq!((usage.web_searches, usage.file_searches), (1, 1));
}

#[test]
fn images_drawn_by_a_tool_are_billed_as_the_model_that_drew_them() {
    let read_with = |fields: &str| {
        let body = format!(
            r#"{{"status":"completed","model":"gpt-5","output":[{{"type":"image_generation_call"}}],
                "usage":{{"input_tokens":20,"output_tokens":3,"total_tokens":23}}{fields}}}"#
        );
        read(Operation::Responses, false, body.as_bytes())
    };
    let stated = r#","tool_usage":{"image_gen":{"input_tokens":7,"input_tokens_details":
        {"image_tokens":0,"text_tokens":7},"output_tokens":9,"total_tokens":16}}"#;
    let tools = r#","tools":[{"type":"image_generation","model":"gpt-image-2"}]"#;
    let drawn = Usage {
        input_tokens: 7,
        output_tokens: 9,
        output_image_tokens: 9,
        ..Usage::default()
    };
    for (fields, model) in [
        (format!("{stated}{tools}"), "gpt-image-2"),
        (stated.to_owned(), "gpt-image-1"),
    ] {
        let reading = read_with(&fields);
        assert_eq!(exact(&reading).output_tokens, 3);
        assert_eq!(reading.elsewhere, [(model.to_owned(), drawn)]);
    }
    let unstated = [
        "",
        r#","tool_usage":null"#,
        r#","tool_usage":{"image_gen":{"output_tokens":0}}"#,
        r#","tool_usage":{"image_gen":{"input_tokens":7,"output_tokens":-9}}"#,
    ];
    for fields in unstated {
        let reading = read_with(fields);
        assert!(
            matches!(reading.metered, Metered::Partial(_)),
            "{fields}: {reading:?}"
        );
    }
}

#[test]
fn every_image_of_a_stream_is_billed() {
    let image = |kind: &str| {
        format!(
            r#"{{"type":"{kind}","b64_json":"AAAA","usage":{{"input_tokens":50,
                "output_tokens":1000,"total_tokens":1050,
                "input_tokens_details":{{"image_tokens":20,"text_tokens":30}}}}}}"#
        )
        .replace('\n', "")
    };
    let (one, two) = (image("image_edit.completed"), image("image_edit.completed"));
    let partial = image("image_edit.partial_image");
    let reading = read_events(Operation::ImageEdits, &[&partial, &one, &two]);
    let usage = exact(&reading);
    assert_eq!((usage.input_tokens, usage.input_image_tokens), (100, 40));
    assert_eq!(
        (usage.output_tokens, usage.output_image_tokens),
        (2_000, 2_000)
    );
    let reading = read_events(Operation::ImageEdits, &[&partial]);
    assert_eq!(reading.metered, Metered::Unknown);
}

#[test]
fn an_image_priced_by_the_provider_needs_no_tokens() {
    let body = br#"{"data":[{"url":"https://x"}],"usage":{"cost_in_usd_ticks":200000000}}"#;
    let reading = read(Operation::ImageGenerations, false, body);
    assert_eq!(reading.metered, Metered::Unknown);
    assert_eq!(reading.reported_cost, Some(PicoUsd::new(20_000_000_000)));
}

#[test]
fn transcriptions_state_tokens_or_the_length_of_the_audio() {
    let json = "application/json";
    let read = |kind, body: &str| read_as(Operation::Transcriptions, kind, body.as_bytes());
    for (body, audio_ms) in [
        (
            r#"{"text":"a","usage":{"type":"duration","seconds":29}}"#,
            29_000,
        ),
        (
            r#"{"text":"a","usage":{"type":"duration","seconds":45.5}}"#,
            45_500,
        ),
        (
            r#"{"task":"transcribe","duration":3.2,"segments":[{}]}"#,
            3_200,
        ),
        (r#"{"duration":3.2,"x_groq":{"id":"r"}}"#, 10_000),
        (r#"{"duration":30,"x_groq":{"id":"r"}}"#, 30_000),
    ] {
        let usage = exact(&read(json, body));
        assert_eq!(
            usage,
            Usage {
                audio_ms,
                ..Usage::default()
            },
            "{body}"
        );
    }
    let tokens = r#"{"duration":9,"usage":{"type":"tokens","input_tokens":7,"output_tokens":2}}"#;
    let expected = Usage {
        input_tokens: 7,
        input_audio_tokens: 7,
        output_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(
        exact(&read(json, tokens)),
        expected,
        "no length besides tokens"
    );
    let stream = events(&[
        r#"{"type":"transcript.text.delta","delta":"hello"}"#,
        r#"{"type":"transcript.text.done","text":"hello","usage":{"type":"tokens",
            "input_tokens":7,"input_token_details":{"audio_tokens":6,"text_tokens":1},
            "output_tokens":2,"total_tokens":9}}"#
            .replace('\n', "")
            .as_str(),
    ]);
    let reading = read("text/event-stream", &stream);
    assert_eq!(exact(&reading).input_audio_tokens, 6);
    assert_eq!(reading.output_bytes, 5);
}

#[test]
fn a_transcript_as_plain_text_is_not_the_providers_word() {
    let said = r#"{"usage":{"type":"duration","seconds":0}}"#;
    for kind in ["text/plain; charset=utf-8", "Text/VTT", "text/srt"] {
        let reading = read_as(Operation::Transcriptions, kind, said.as_bytes());
        assert_eq!(reading.metered, Metered::Unknown, "{kind}");
        assert_eq!(reading.output_bytes, said.len() as u64);
    }
}

#[test]
fn speech_states_usage_only_in_its_stream() {
    let stream = events(&[
        r#"{"type":"speech.audio.delta","audio":"AAAA"}"#,
        r#"{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}"#,
    ]);
    let usage = exact(&read_as(
        Operation::Speech,
        "text/event-stream",
        stream.as_bytes(),
    ));
    assert_eq!((usage.input_tokens, usage.output_audio_tokens), (14, 101));
    let reading = read_as(Operation::Speech, "audio/mpeg", stream.as_bytes());
    assert_eq!(reading, Reading::nothing());
}

#[test]
fn cohere_bills_units_in_both_versions_of_its_chat() {
    let bill = r#"{"billed_units":{"input_tokens":10.0,"output_tokens":48.0},"tokens":{"input_tokens":506,"output_tokens":50}}"#;
    let v1 = format!(
        "{}\n{}\n",
        r#"{"event_type":"text-generation","text":"Hi"}"#,
        format_args!(r#"{{"event_type":"stream-end","response":{{"meta":{bill}}}}}"#),
    );
    let lines = read_as(
        Operation::CohereChat,
        "application/stream+json",
        v1.as_bytes(),
    );
    assert_eq!(lines.output_bytes, 2);
    let plain = format!(r#"{{"message":{{}},"usage":{bill}}}"#);
    let only_tokens = r#"{"usage":{"tokens":{"input_tokens":10,"output_tokens":48}}}"#;
    for reading in [
        lines,
        read(Operation::CohereChat, false, plain.as_bytes()),
        read(Operation::CohereChat, false, only_tokens.as_bytes()),
    ] {
        let usage = exact(&reading);
        assert_eq!((usage.input_tokens, usage.output_tokens), (10, 48));
    }
}

#[test]
fn embedded_images_are_tokens_of_their_own() {
    let body = br#"{"embeddings":{"float":[[0.1]]},
        "meta":{"billed_units":{"input_tokens":4,"image_tokens":30,"images":1}}}"#;
    let usage = exact(&read(Operation::CohereEmbed, false, body));
    assert_eq!((usage.input_tokens, usage.input_image_tokens), (34, 30));
}

#[test]
fn rerankers_bill_search_units_or_tokens() {
    for (body, units, tokens) in [
        (r#"{"meta":{"billed_units":{"search_units":2.0}}}"#, 2, 0),
        (r#"{"model":"rerank-2","usage":{"total_tokens":26}}"#, 0, 26),
        (
            r#"{"usage":{"prompt_tokens":20,"completion_tokens":0,"total_tokens":20}}"#,
            0,
            20,
        ),
    ] {
        let usage = exact(&read(Operation::Rerank, false, body.as_bytes()));
        assert_eq!((usage.search_units, usage.input_tokens), (units, tokens));
    }
    let reading = read(Operation::Rerank, false, br#"{"results":[]}"#);
    assert_eq!(reading.metered, Metered::Unknown);
}

#[test]
fn embeddings_may_state_only_a_total() {
    let reading = read(
        Operation::Embeddings,
        false,
        br#"{"usage":{"total_tokens":7}}"#,
    );
    assert_eq!(exact(&reading).input_tokens, 7);
}

#[test]
fn ollama_is_final_only_when_done_and_only_with_both_counts() {
    for (operation, body, source) in [
        (
            Operation::OllamaChat,
            r#"{"response":"ab","done":true,"prompt_eval_count":3,"eval_count":2}"#,
            "exact",
        ),
        (
            Operation::OllamaChat,
            r#"{"response":"ab","done":false,"prompt_eval_count":3,"eval_count":2}"#,
            "partial",
        ),
        (
            Operation::OllamaChat,
            r#"{"response":"ab","done":"true","prompt_eval_count":3,"eval_count":2}"#,
            "partial",
        ),
        (
            Operation::OllamaChat,
            r#"{"done":true,"eval_count":2}"#,
            "partial",
        ),
        (
            Operation::OllamaChat,
            r#"{"done":true,"done_reason":"load"}"#,
            "unknown",
        ),
        (
            Operation::OllamaEmbed,
            r#"{"embeddings":[[0.1]],"prompt_eval_count":8}"#,
            "exact",
        ),
        (Operation::OllamaEmbed, r#"{"embedding":[0.1]}"#, "unknown"),
    ] {
        for framing in [Framing::Document, Framing::Lines] {
            let reading = run(Meter::new(operation, framing, false), [body.as_bytes()]).1;
            let found = match reading.metered {
                Metered::Exact(_) => "exact",
                Metered::Partial(_) => "partial",
                Metered::Unknown => "unknown",
            };
            assert_eq!(found, source, "{body}");
        }
    }
}
