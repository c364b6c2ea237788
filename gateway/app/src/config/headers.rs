//! A file of headers whose values are secrets: a line `name: value` for each.
//!
//! Empty lines and those that begin with `#` are passed over. Nothing of a line is ever shown but a
//! name that is known to be wrong. Worst case: one mistake, and no header goes anywhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use http::{HeaderName, HeaderValue};
use tollgate_core::policy::Mistake;
use tollgate_core::policy::parse::FRAMING_HEADERS;
use zeroize::Zeroizing;

use crate::private_file;

/// Longer than all that one request may carry.
const MAX_BYTES: usize = 64 << 10;

/// Reads the file.
///
/// # Errors
/// Every mistake found, none of which shows a value.
pub(crate) fn read(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<Mistake>> {
    let file = path.display().to_string();
    let mistake = |line: usize, message: String| Mistake {
        file: file.clone(),
        line,
        column: 1,
        message,
    };
    let text = text(path).map_err(|wrong| vec![mistake(1, wrong)])?;
    let (mut headers, mut mistakes) = (Vec::<(HeaderName, HeaderValue)>::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match header(line) {
            Ok((name, _)) if headers.iter().any(|(known, _)| *known == name) => {
                mistakes.push(mistake(number, format!("`{name}` stands there twice")));
            }
            Ok(header) => headers.push(header),
            Err(wrong) => mistakes.push(mistake(number, wrong)),
        }
    }
    if mistakes.is_empty() {
        Ok(headers)
    } else {
        Err(mistakes)
    }
}

fn text(path: &Path) -> Result<Zeroizing<String>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let met = file.metadata().map_err(unreadable)?;
    if private_file::is_open_to_others(&met) {
        let how = private_file::HOW_TO_CLOSE;
        return Err(format!("others than its owner can read it; {how}"));
    }
    if met.len() > MAX_BYTES as u64 {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    // A string that grows would leave its beginnings behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
    let mut bounded = file.take(MAX_BYTES as u64);
    bounded.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    const FORM: &str = "must be a header's name, a colon and its value, such as `api-key: …`";
    let (name, value) = line.split_once(':').ok_or(FORM)?;
    let name: HeaderName = name.parse().map_err(|_no_name| FORM)?;
    let known = name.as_str();
    let is_the_senders = known == "user-agent" || known.starts_with("grpc-");
    if is_the_senders || FRAMING_HEADERS.contains(&known) {
        return Err(format!("`{known}` is not for whoever writes this file"));
    }
    let value = value.trim();
    if value.is_empty() {
        return Err(format!("`{known}` has no value"));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_no_value| format!("the value of `{known}` must be visible ASCII"))?;
    if value.to_str().is_err() {
        return Err(format!("the value of `{known}` must be visible ASCII"));
    }
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read_text(text: &[u8], mode: u32) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("headers");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("allowed");
        read(&path).map_err(|mistakes| {
            let shown = mistakes.iter().map(|mistake| {
                assert_eq!(mistake.file, path.display().to_string());
                format!("{}: {}", mistake.line, mistake.message)
            });
            shown.collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn each_line_is_a_header_whose_value_does_not_show() {
        let text =
            b"# of the collector\n\nX-Api-Key: sk-canary-otlp\r\nauthorization:Bearer a:b=\n";
        let headers = read_text(text, 0o600).expect("headers");
        let plain: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        assert_eq!(
            plain,
            [
                ("x-api-key", "sk-canary-otlp"),
                ("authorization", "Bearer a:b=")
            ]
        );
        assert!(!format!("{headers:?}").contains("sk-canary"));
        assert_eq!(read_text(b"", 0o400), Ok(Vec::new()));
    }

    #[test]
    fn every_mistake_is_told_by_its_line_and_without_a_value() {
        let text = "x-api-key sk-canary-1\nsk-canary-2 x: y\nHost: sk-canary-3\nte: trailers\nGrpc-Timeout: 1S\nx-empty:\nx-odd: sk-canary-é\nx-twice: sk-canary-4\nX-Twice: sk-canary-5\n: x\n";
        let told = read_text(text.as_bytes(), 0o600).expect_err("mistakes");
        let form = "must be a header's name, a colon and its value, such as `api-key: …`";
        let expected = [
            &format!("1: {form}"),
            &format!("2: {form}"),
            "3: `host` is not for whoever writes this file",
            "4: `te` is not for whoever writes this file",
            "5: `grpc-timeout` is not for whoever writes this file",
            "6: `x-empty` has no value",
            "7: the value of `x-odd` must be visible ASCII",
            "9: `x-twice` stands there twice",
            &format!("10: {form}"),
        ];
        assert_eq!(told, expected.join("\n"));
    }

    #[test]
    fn a_file_that_is_not_as_it_must_be_is_refused_whole() {
        for (text, mode, expected) in [
            (
                &b"a: b\n"[..],
                0o640,
                "1: others than its owner can read it; allow it to its owner alone (0600)",
            ),
            (b"a: \xff\n", 0o600, "1: cannot be read: stream did not"),
            (&[b'#'; 70_000], 0o600, "1: is longer than 65536 bytes"),
        ] {
            let told = read_text(text, mode).expect_err("a mistake");
            assert!(told.starts_with(expected), "{told}");
        }
        let told = read(Path::new("/nowhere/headers")).expect_err("a mistake");
        assert!(told[0].message.starts_with("cannot be read: "), "{told:?}");
    }
}
