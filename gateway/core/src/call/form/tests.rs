use proptest::prelude::*;

use super::*;

const KIND: Option<&str> = Some("multipart/form-data; boundary=xyz");

fn field(name: &str, value: &str) -> String {
    format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn form(fields: &[String]) -> String {
    format!("{}--xyz--\r\n", fields.concat())
}

fn model_of(body: &str) -> Result<Option<String>, Refusal> {
    let form = Form::read(KIND, body.as_bytes())?;
    Ok(form.text("model")?.map(str::to_owned))
}

#[test]
fn what_common_clients_send_is_read() {
    for head in [
        "Content-Disposition: form-data; name=\"model\"",
        "content-disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=model",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 9",
    ] {
        let body = format!("--xyz\r\n{head}\r\n\r\nwhisper-1\r\n--xyz--\r\n");
        assert_eq!(model_of(&body), Ok(Some("whisper-1".to_owned())), "{head}");
        let unended = body.trim_end();
        assert_eq!(
            model_of(unended),
            Ok(Some("whisper-1".to_owned())),
            "{head}"
        );
    }
    let file = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.mp3\"\r\n\
                Content-Type: audio/mpeg\r\n\r\n\0\r\n\r\n--xy\r\n";
    let body = form(&[field("model", "m"), file.to_owned()]);
    let read = Form::read(KIND, body.as_bytes()).expect("a form");
    assert_eq!(read.file("file"), Ok(&b"\0\r\n\r\n--xy"[..]));
    for kind in [
        "multipart/form-data; boundary=\"xyz\"",
        "Multipart/Form-Data;boundary=xyz",
    ] {
        assert!(Form::read(Some(kind), body.as_bytes()).is_ok(), "{kind}");
    }
}

#[test]
fn a_form_that_two_readers_could_split_in_two_ways_is_refused() {
    let good = form(&[field("model", "m")]);
    assert!(model_of(&good).is_ok());
    for bad in [
        String::new(),
        format!("x{good}"),
        format!("\r\n{good}"),
        format!("{good}x"),
        format!("{good}{good}"),
        good.replace("--xyz--", "--xyz"),
        good.replace("--xyz--\r\n", ""),
        good.replace("--xyz--", "--xyz --"),
        good.replace("--xyz\r\n", "--xyz \r\n"),
        good.replace("--xyz\r\n", "--xyz\n"),
        good.replace("\r\n", "\n"),
        good.replace("m\r\n--xyz--", "m\n--xyz--"),
        good.replace(
            "m\r\n",
            "m\n--xyz\nContent-Disposition: form-data; name=\"n\"\n\n9\r\n",
        ),
        good.replace("m\r\n", "m\r\n--xyzw\r\n"),
        good.replace("m\r\n", "a--xyz\r\n"),
    ] {
        let refused = model_of(&bad).expect_err("a refusal");
        assert_eq!(refused.code(), "invalid_form", "{bad:?}");
    }
    for kind in [
        None,
        Some("application/json"),
        Some("multipart/form-data"),
        Some("multipart/form-data; boundary="),
        Some("multipart/form-data; boundary=xyz; boundary=abc"),
        Some("multipart/form-data; charset=utf-16; boundary=xyz"),
        Some("multipart/form-data; boundary=\"xyz"),
        Some("multipart/form-data; boundary=x yz"),
        Some("multipart/mixed; boundary=xyz"),
    ] {
        assert!(Form::read(kind, good.as_bytes()).is_err(), "{kind:?}");
    }
}

#[test]
fn a_part_whose_headers_could_be_read_in_two_ways_is_refused() {
    let good = form(&[field("model", "m")]);
    for disposition in [
        "form-data; name=\"model",
        "form-data; name='model'; x",
        "form-data; name=\"mo\\del\"",
        "form-data; name=\"model\"; name=\"n\"",
        "form-data; name*=utf-8''model",
        "form-data; name=\"\"",
        "form-data",
        "attachment; name=\"model\"",
        "form-data; filename=\"a\"; name=\"model\"",
        "form-data; name=\"file\"; filename=\"a\\\"; name=\"model\"",
        "form-data; name=\"file\"; filename=\"a\"; filename*=utf-8''b",
    ] {
        let bad = good.replace("form-data; name=\"model\"", disposition);
        assert!(model_of(&bad).is_err(), "{disposition}");
    }
    for header in [
        "Content-Transfer-Encoding: base64",
        "Content-Encoding: gzip",
        "Content-Disposition: form-data; name=\"n\"",
        "Content-Length: 2",
        "X: y",
        "no colon",
        " folded: x",
        "",
    ] {
        let bad = good.replace("\r\n\r\nm", &format!("\r\n{header}\r\n\r\nm"));
        let read = model_of(&bad);
        assert_ne!(read, Ok(Some("m".to_owned())), "{header}");
    }
}

#[test]
fn a_judged_field_occurs_once_as_plain_text() {
    let file =
        "--xyz\r\nContent-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\nm\r\n";
    let typed = |kind: &str| {
        field("model", "m").replace("\r\n\r\nm", &format!("\r\nContent-Type: {kind}\r\n\r\nm"))
    };
    for fields in [
        vec![field("model", "a"), field("model", "b")],
        vec![field("model", "a"), field("Model", "b")],
        vec![field("model[]", "a")],
        vec![field(" model", "a")],
        vec![field("model", "a"), file.to_owned()],
        vec![file.to_owned()],
        vec![typed("application/json")],
        vec![typed("text/plain; charset=utf-16")],
        vec![field("model", " m")],
        vec![field("model", "m\n")],
        vec![field("model", "m"), field("_charset_", "utf-7")],
        vec![field("x", "y"); MAX_PARTS + 1],
    ] {
        let body = form(&fields);
        let refused = model_of(&body).expect_err("a refusal");
        assert_eq!(refused.code(), "invalid_form", "{body}");
    }
    assert_eq!(
        model_of(&form(&[typed("text/plain")])),
        Ok(Some("m".to_owned()))
    );
    assert_eq!(model_of(&form(&[field("model", "")])), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_between_the_boundaries_come_back_whole(bytes: Vec<u8>) {
        prop_assume!(memmem::find(&bytes, b"--xyz").is_none());
        let head = b"--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"g\"\r\n\r\n";
        let body = [&head[..], &bytes, b"\r\n--xyz--\r\n"].concat();
        let form = Form::read(KIND, &body).expect("a form");
        prop_assert_eq!(form.file("f").expect("a file"), &bytes[..]);
    }

    #[test]
    fn no_bytes_make_the_reader_fail(bytes: Vec<u8>) {
        let _ = Form::read(KIND, &bytes);
        let _ = Form::read(KIND, &[b"--xyz\r\n", &bytes[..], b"\r\n--xyz--"].concat());
    }
}
