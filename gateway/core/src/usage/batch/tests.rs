use super::*;

const FILE: &str = concat!(
    r#"{"id":"b1","custom_id":"a","response":{"status_code":200,"request_id":"r","body":{"object":"chat.completion","model":"gpt-4.1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}},"error":null}"#,
    "\r\n\n",
    r#"{"id":"b2","custom_id":"\"usage\":{\"prompt_tokens\":9}","response":{"status_code":200,"request_id":"r","body":{"object":"response","status":"completed","model":"gpt-4.1","output":[],"usage":{"input_tokens":5,"output_tokens":6,"total_tokens":11}}},"error":null}"#,
    "\n",
    r#"{"id":"b3","custom_id":"c","response":{"status_code":200,"request_id":"r","body":{"object":"list","model":"text-embedding-3-small","data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}},"error":null}"#,
    "\n",
    r#"{"id":"b4","custom_id":"d","response":{"status_code":200,"request_id":"r","body":{"id":"modr-1","model":"omni-moderation-latest","results":[]}},"error":null}"#,
    "\n",
    r#"{"id":"b5","custom_id":"e","response":null,"error":{"code":"batch_expired","message":"m"}}"#,
);

fn lines(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut results = Results::new(Operation::BatchOutput);
    for piece in pieces {
        results.feed(piece.as_ref(), |line| lines.push(line));
    }
    results.finish(|line| lines.push(line));
    lines
}

fn tokens(line: &Line) -> Option<(u64, u64)> {
    let Line::Used(reading) = line else {
        return None;
    };
    let usage = reading.total()?;
    Some((usage.input_tokens, usage.output_tokens))
}

#[test]
fn each_line_is_read_as_the_answer_of_its_endpoint() {
    let lines = lines([FILE]);
    let counted: Vec<_> = lines.iter().map(tokens).collect();
    assert_eq!(
        counted,
        [Some((3, 4)), Some((5, 6)), Some((8, 0)), None, None]
    );
    assert_eq!(lines[3..], [Line::Unbilled, Line::Unbilled]);
}

#[test]
fn any_split_of_the_bytes_gives_the_same_lines() {
    let whole = lines([FILE]);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(lines(FILE.as_bytes().chunks(size)), whole, "{size}");
    }
    for at in 0..=FILE.len() {
        let (head, tail) = FILE.as_bytes().split_at(at);
        assert_eq!(lines([head, tail]), whole, "split at {at}");
    }
}

#[test]
fn a_file_cut_anywhere_has_only_true_lines_and_at_most_one_unread() {
    let whole = lines([FILE]);
    for at in 0..FILE.len() {
        let cut = lines([&FILE.as_bytes()[..at]]);
        let (last, before) = match cut.split_last() {
            Some((Line::Unread, before)) => (1, before),
            _ => (0, &cut[..]),
        };
        assert!(last <= 1 && whole.starts_with(before), "cut at {at}");
    }
}

#[test]
fn a_line_without_usage_or_with_a_field_twice_is_unread() {
    for line in [
        r#"{"custom_id":"a","response":{"status_code":200,"body":{"object":"chat.completion","model":"m"}}}"#,
        r#"{"custom_id":"a","response":null,"response":{"status_code":200,"body":{}}}"#,
        r#"{"custom_id":"a","response":{"status_code":200,"status_code":400,"body":{}}}"#,
        "[]",
        "nonsense",
    ] {
        assert_eq!(lines([line]), [Line::Unread], "{line}");
    }
    let mut results = Results::new(Operation::MessageBatchResults);
    let mut read = Vec::new();
    results.feed(
        b"{\"custom_id\":\"a\",\"result\":{\"type\":\"renamed\"}}\n{\"custom_id\":\"b\"}\n",
        |line| read.push(line),
    );
    results.finish(|line| read.push(line));
    assert_eq!(read, [Line::Unread, Line::Unread]);
}

#[test]
fn an_oversized_line_is_unread_and_the_next_one_is_read() {
    let long = vec![b'x'; MAX_LINE_BYTES + 1];
    let lines = lines([&long[..], b"\n", FILE.as_bytes()]);
    assert!(lines.contains(&Line::Unread));
    assert_eq!(lines.iter().filter_map(tokens).count(), 3);
}

#[test]
fn an_id_is_read_from_its_own_place_only() {
    assert_eq!(
        begun_id(br#"{"metadata":{"id":"evil"},"id":"batch_1"}"#).as_deref(),
        Some("batch_1")
    );
    assert_eq!(begun_id(br#"{"id":"a","id":"b"}"#), None);
    assert_eq!(begun_id(br#"{"data":[{"id":"a"}]}"#), None);
}

#[test]
fn a_stream_names_its_response_in_the_first_event() {
    let stream = concat!(
        "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"queued\"}}\r\n\r\n",
        "event: response.in_progress\r\ndata: {\"response\":{\"id\":\"resp_2\"}}\r\n\r\n",
    );
    let first = stream.find("\r\n\r\n").expect("an end") + 4;
    for at in 0..stream.len() {
        let named = streamed_id(&stream.as_bytes()[..at]);
        let expected = (at >= first).then(|| Some("resp_1".to_owned()));
        assert_eq!(named, expected, "{at}");
    }
    assert_eq!(streamed_id(b"data: {}\n\n"), Some(None));
}

#[test]
fn a_batch_has_come_to_nothing_only_if_it_says_so() {
    let state = |text: &str| batch_states(text.as_bytes()).pop().expect("a batch");
    let nothing = |text: &str| state(text).came_to_nothing;
    let zero = r#""request_counts":{"total":3,"completed":0,"failed":3}"#;
    for status in ["failed", "expired", "cancelled", "completed"] {
        assert!(nothing(&format!(
            r#"{{"id":"b","status":"{status}",{zero}}}"#
        )));
        assert!(!nothing(&format!(r#"{{"id":"b","status":"{status}"}}"#)));
        assert!(!nothing(&format!(
            r#"{{"id":"b","status":"{status}","output_file_id":"f",{zero}}}"#
        )));
    }
    for status in ["validating", "in_progress", "finalizing", "cancelling"] {
        assert!(!nothing(&format!(
            r#"{{"id":"b","status":"{status}",{zero}}}"#
        )));
    }
    let done = state(
        r#"{"id":"b","status":"completed","output_file_id":"file-2","error_file_id":null,"metadata":{"output_file_id":"evil"}}"#,
    );
    assert_eq!(done.output_file.as_deref(), Some("file-2"));
}

#[test]
fn a_list_tells_of_every_batch() {
    let list = r#"{"object":"list","data":[{"id":"a","status":"completed","output_file_id":"f"},{"id":"b","status":"validating"}],"has_more":false}"#;
    let states = batch_states(list.as_bytes());
    let ids: Vec<_> = states.iter().map(|state| &state.id[..]).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(states[0].output_file.as_deref(), Some("f"));
    assert_eq!(batch_states(b"{}"), []);
}
