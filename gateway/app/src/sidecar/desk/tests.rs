use super::*;

fn at(source: Source) -> GatewayDesk {
    let link = LinkConfig {
        gateway: "http://127.0.0.1:9".parse().expect("an origin"),
        ca: None,
        identity: None,
    };
    GatewayDesk::new(link, source)
}

fn text(form: Result<Zeroizing<Vec<u8>>, Trouble>) -> String {
    String::from_utf8(form.expect("a form").to_vec()).expect("ASCII")
}

#[test]
fn the_credential_is_read_anew_for_each_exchange() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let desk = at(Source::SubjectToken {
        file: file.clone(),
        task: Some("nightly".parse().expect("a name")),
    });
    let missing = desk.form(&Subject::Credential);
    assert!(matches!(missing, Err(Trouble::File(why)) if why.contains("token: ")));
    for token in ["aaa.bbb.ccc", "ddd.eee.fff"] {
        std::fs::write(&file, format!("{token}\n")).expect("written");
        assert_eq!(
            text(desk.form(&Subject::Credential)),
            format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
                 &task=nightly&subject_token={token}"
            )
        );
    }
    std::fs::write(&file, " \n").expect("written");
    assert!(desk.form(&Subject::Credential).is_err(), "an empty file");
}

#[test]
fn a_task_token_is_renewed_as_what_it_is_and_for_no_other_task() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "a/b=&c").expect("written");
    let desk = at(Source::TaskToken(file));
    let held = HeaderValue::from_static("aaa.bbb.ccc");
    let start = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
                 &subject_token=";
    let renewal = text(desk.form(&Subject::Token(&held)));
    assert_eq!(renewal, format!("{start}aaa.bbb.ccc"));
    let first = text(desk.form(&Subject::Credential));
    assert_eq!(first, format!("{start}a%2Fb%3D%26c"));
}

#[test]
fn answers_are_tokens_refusals_or_neither() {
    let good = br#"{"access_token":"a.b.c","issued_token_type":"x","token_type":"Bearer","expires_in":120}"#;
    let granted = judge(StatusCode::OK, good).expect("a token");
    assert_eq!(granted.life, Duration::from_secs(120));
    assert_eq!(granted.token, "a.b.c");
    assert!(granted.token.is_sensitive(), "no Debug shows it");

    for bad in [
        &br#"{"access_token":"a.b.c","token_type":"Bearer"}"#[..],
        br#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":0}"#,
        br#"{"access_token":"a\nb","token_type":"Bearer","expires_in":1}"#,
        br#"{"access_token":"a.b.c","token_type":"N_A","expires_in":1}"#,
        b"<html>",
    ] {
        let judged = judge(StatusCode::OK, bad).err().expect("no token");
        assert!(matches!(judged, Trouble::Unavailable(_)), "{judged:?}");
        assert!(!judged.to_string().contains("a.b.c"), "{judged}");
    }

    let refusal = br#"{"error":"invalid_grant","error_description":"revoked\nX: y"}"#;
    for status in [400, 401, 403] {
        let status = StatusCode::from_u16(status).expect("a status");
        let expected = Trouble::Refused {
            status: status.as_u16(),
            reason: "invalid_grant: revoked X: y".to_owned(),
        };
        assert_eq!(judge(status, refusal).err(), Some(expected));
    }
    for status in [404, 429, 500, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        let judged = judge(status, b"no JSON").err();
        assert!(matches!(judged, Some(Trouble::Unavailable(_))), "{status}");
    }
}
