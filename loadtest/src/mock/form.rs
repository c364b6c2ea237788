//! Reads the short text fields of a multipart form; files are passed over.

use serde_json::{Map, Value};

/// Longer fields are files.
const LONGEST_FIELD: usize = 4096;

/// The text fields as a JSON object, so that forms and JSON bodies are answered alike.
pub(crate) fn fields(content_type: &str, body: &[u8]) -> Option<Value> {
    let boundary = content_type
        .strip_prefix("multipart/form-data")?
        .split_once("boundary=")?
        .1
        .trim_matches('"');
    let delimiter = format!("--{boundary}");
    let mut fields = Map::new();
    let mut from = 0;
    let ends: Vec<usize> = memchr::memmem::find_iter(body, delimiter.as_bytes()).collect();
    for end in ends {
        let part = body.get(from..end).unwrap_or_default();
        from = end + delimiter.len();
        let Some(split) = memchr::memmem::find(part, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(part.get(..split)?);
        let value = part.get(split + 4..)?;
        let value = value.strip_suffix(b"\r\n").unwrap_or(value);
        let name = head
            .split_once("name=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        if let (Some((name, _)), Ok(text)) = (name, std::str::from_utf8(value))
            && !head.contains("filename=")
            && text.len() <= LONGEST_FIELD
        {
            fields.insert(name.to_owned(), text.into());
        }
    }
    Some(Value::Object(fields))
}
