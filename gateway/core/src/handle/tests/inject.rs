//! Cases 1, 9, 14 to 16, 20 and 53: what the upstream gets.

use super::*;

const SECRET: &str = "sk-canary-1";

/// Cases 1, 20 and 53.
#[test]
fn case_01_exactly_one_credential_goes_out() {
    let lines = [
        ("authorization", "Bearer $CRED{openai}"),
        ("authorization", "Bearer sk-own"),
        ("x-api-key", "sk-own"),
        ("api-key", "sk-own"),
        ("x-goog-api-key", "sk-own"),
        ("cookie", "session=own"),
        ("proxy-authorization", "Basic own"),
        ("x-tollgate-token", "eyJhbGciOi.eyJpc3Mi.c2ln"),
        ("content-type", "application/json"),
        ("x-stainless-lang", "python"),
    ];
    let (sent, query) = Case::new(bearer(), &lines)
        .query("key=own&alt=sse")
        .sent(SECRET);
    let expected = headers(&[
        ("authorization", "Bearer sk-canary-1"),
        ("content-type", "application/json"),
        ("x-stainless-lang", "python"),
    ]);
    assert_eq!(sent, expected);
    assert_eq!(query.as_deref(), Some("alt=sse"));
    assert!(
        sent[AUTHORIZATION].is_sensitive(),
        "debug output must not show it"
    );
}

#[test]
fn the_declared_header_and_prefix_are_used_whatever_the_client_wrote() {
    let github = header_place("authorization", "token ");
    let (sent, _) = Case::new(github, &[("authorization", "Bearer $CRED{openai}")]).sent(SECRET);
    assert_eq!(sent[AUTHORIZATION], "token sk-canary-1");
    let anthropic = header_place("x-api-key", "");
    let lines = [("authorization", "Bearer eyJhbGciOi.eyJpc3Mi.c2ln")];
    let (sent, _) = Case::new(anthropic, &lines).with_default().sent(SECRET);
    assert_eq!(sent, headers(&[("x-api-key", SECRET)]));
}

/// Case 9.
#[test]
fn case_09_a_query_keeps_its_bytes_and_order_around_the_secret() {
    for (query, expected) in [
        (
            Some("a=1&key=CRED~openai~&b=%7E&&c"),
            "a=1&key=KEY&b=%7E&&c",
        ),
        (Some("key=%24CRED%7Bopenai%7D"), "key=KEY"),
        (Some("b=+x&k%65y=$CRED{openai}&a="), "b=+x&key=KEY&a="),
        (Some("key=own&key=CRED~openai~"), "key=KEY"),
        (
            Some("a=1&key=eyJ.a.b&access_token=own&api_key=own&z=2"),
            "a=1&key=KEY&z=2",
        ),
        (Some("a=1"), "a=1&key=KEY"),
        (Some("access_token=own"), "key=KEY"),
        (None, "key=KEY"),
    ] {
        let mut case = Case::new(query_place(), &[("authorization", "Bearer own")]).with_default();
        case.query = query.map(str::to_owned);
        let (headers, sent) = case.sent("sk-canary/?#% \"&=+\u{7e}");
        let encoded = "sk-canary%2F%3F%23%25%20%22%26%3D%2B~";
        assert_eq!(sent, Some(expected.replace("KEY", encoded)), "{query:?}");
        assert!(headers.is_empty());
    }
}

/// Case 14.
#[test]
fn case_14_basic_is_encoded_again_with_the_clients_user() {
    // printf 'x:sk-canary-1' | base64
    let lines = [("authorization", "Basic eDokQ1JFRHtvcGVuYWl9")];
    let (sent, _) = Case::new(Place::Basic, &lines).sent(SECRET);
    assert_eq!(
        sent,
        headers(&[("authorization", "Basic eDpzay1jYW5hcnktMQ==")])
    );
    // The client's own password goes, its user name stays.
    let lines = [("authorization", "Basic eDpvd24=")];
    let (sent, _) = Case::new(Place::Basic, &lines).with_default().sent(SECRET);
    assert_eq!(
        sent,
        headers(&[("authorization", "Basic eDpzay1jYW5hcnktMQ==")])
    );
    // printf ':sk-canary-1' | base64
    let (sent, _) = Case::new(Place::Basic, &[]).with_default().sent(SECRET);
    assert_eq!(
        sent,
        headers(&[("authorization", "Basic OnNrLWNhbmFyeS0x")])
    );
}

/// Case 15.
#[test]
fn case_15_a_secret_that_looks_like_a_handle_is_sent_as_it_is() {
    let lines = [("authorization", "Bearer $CRED{openai}")];
    let (sent, _) = Case::new(bearer(), &lines).sent("$CRED{other}");
    assert_eq!(sent[AUTHORIZATION], "Bearer $CRED{other}");
}

/// Case 16.
#[test]
fn case_16_a_secret_that_cannot_be_sent_as_it_is_stops_the_call() {
    let long = "s".repeat(16 * 1024);
    for place in [
        bearer(),
        header_place("x-api-key", ""),
        Place::Basic,
        query_place(),
    ] {
        let lines = [("authorization", "Bearer own")];
        let case = Case::new(place, &lines).with_default().query("a=1");
        let bound = case.bind().expect("bound");
        for (secret, expected) in [
            ("", InvalidSecret::Empty),
            ("sk\r", InvalidSecret::Unsendable),
            ("sk\nx: y", InvalidSecret::Unsendable),
            ("sk\0", InvalidSecret::Unsendable),
            ("sk\t1", InvalidSecret::Unsendable),
            (" sk", InvalidSecret::Unsendable),
            ("sk ", InvalidSecret::Unsendable),
            ("sk\u{e9}", InvalidSecret::Unsendable),
            ("sk\u{7f}", InvalidSecret::Unsendable),
            (&long, InvalidSecret::TooLong),
        ] {
            let (mut headers, mut query) = (case.headers.clone(), case.query.clone());
            let value = Secret::new(secret.as_bytes().to_vec());
            let result = bound.inject(&mut headers, &mut query, None, &value);
            assert_eq!(result, Err(expected), "{:?}", secret.get(..4));
            assert_eq!((headers, query), (case.headers.clone(), case.query.clone()));
        }
    }
    assert!(check_sendable(&Secret::new(b"two words".to_vec())).is_ok());
    assert!(check_sendable(&Secret::new(vec![b's'; MAX_SECRET_BYTES])).is_ok());
}

#[test]
fn a_call_without_a_credential_is_stripped_and_takes_no_secret() {
    let lines = [("authorization", "Bearer sk-own"), ("accept", "*/*")];
    let mut case = Case::new(bearer(), &lines).query("key=eyJ.a.b");
    case.provider.place = None;
    let bound = case.bind().expect("bound to nothing");
    let (mut headers, mut query) = (case.headers.clone(), case.query.clone());
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let result = bound.inject(&mut headers, &mut query, None, &secret);
    assert_eq!(result, Err(InvalidSecret::Unbound));
    bound.strip(&mut headers, &mut query);
    assert_eq!(headers, super::headers(&[("accept", "*/*")]));
    assert_eq!(query, None);
}

/// `key` is a credential to model providers and a common name for data elsewhere.
#[test]
fn a_tools_own_key_parameter_is_data() {
    for (query, expected) in [
        ("key=PROJ-1&a=1", "key=PROJ-1&a=1"),
        ("key=eyJ.a.b&a=1", "a=1"),
        ("access_token=own&a=1", "a=1"),
        ("Access_Token=own&a=1&API_KEY=own", "a=1"),
        ("access%5Ftoken=own&a=1", "a=1"),
        ("a=1&&b", "a=1&&b"),
        ("", ""),
    ] {
        let mut case = Case::new(bearer(), &[]).with_default().query(query);
        case.provider.dialect = Dialect::Http;
        let (_, sent) = case.sent(SECRET);
        assert_eq!(sent.as_deref(), Some(expected), "{query}");
    }
}
