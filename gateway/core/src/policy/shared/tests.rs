use std::sync::Arc;

use crate::call::Request;
use crate::policy::{Endpoints, PolicyFile, parse};

use super::*;

const PROVIDER: &str = r#"
[provider]
name = "openai"
upstream = "https://api.openai.example"
dialect = "openai"
[[endpoint]]
method = "POST"
path = "/v1/responses"
operation = "responses"
[[endpoint]]
method = "GET"
path = "/v1/responses/*"
operation = "response_status"
[[endpoint]]
method = "GET"
path = "/v1/files"
operation = "tool"
account_wide = true
[[endpoint]]
method = "GET"
path = "/v1/models"
operation = "free"
"#;

const TENANT: &str = r#"
[tenant]
id = "acme"
[credentials]
own = { provider = "openai" }
shared = { provider = "openai", platform_key = "openai_shared" }
"#;

fn credentials() -> (Arc<Credential>, Arc<Credential>, Endpoints) {
    let files = [
        ("p/providers/openai.toml", PROVIDER),
        ("p/tenants/acme.toml", TENANT),
    ];
    let files = files.map(|(path, text)| PolicyFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    let policy = parse(&files).expect("a policy");
    let tenant = policy.tenants.get("acme").expect("the tenant");
    let of = |name: &str| Arc::clone(tenant.credentials.get(name).expect("a credential"));
    let provider = policy.providers.get("openai").expect("the provider");
    (of("own"), of("shared"), provider.endpoints.clone())
}

fn ask(operation: Operation) -> Ask {
    let request = Request::json(br#"{"model":"gpt-5","messages":[]}"#);
    Ask::parse(operation, &request).expect("an ask")
}

#[test]
fn names_are_in_the_order_that_they_are_looked_up_by() {
    assert!(IDS.is_sorted());
}

#[test]
fn what_an_account_keeps_is_neither_shown_nor_changed_on_a_shared_key() {
    let (own, shared, endpoints) = credentials();
    let refused: Vec<bool> = endpoints
        .iter()
        .map(|endpoint| refuse_endpoint(&shared, endpoint) == Err(Refusal::SharedAccount))
        .collect();
    assert_eq!(refused, [false, true, true, false]);
    for endpoint in &endpoints {
        assert_eq!(refuse_endpoint(&own, endpoint), Ok(()));
    }
}

#[test]
fn bodies_that_refer_to_what_the_account_keeps_are_refused() {
    let (own, shared, _) = credentials();
    let chat = ask(Operation::ChatCompletions);
    for body in [
        r#"{"previous_response_id":"resp_1"}"#,
        r#"{"previous\u005fresponse_id":"resp_1"}"#,
        r#"{"Previous_Response_ID":"resp_1"}"#,
        r#"{"previous_response_id":"resp_1","previous_response_id":null}"#,
        r#"{"conversation":"conv_1"}"#,
        r#"{"conversation":{"id":"conv_1"}}"#,
        r#"{"prompt":{"id":"pmpt_1","version":"2"}}"#,
        r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
        r#"{"input":[{"content":[{"type":"input_file","file_id":"file_1"}]}]}"#,
        r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file_1"}}]}]}"#,
        r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#,
        r#"{"messages":[{"content":[{"source":{"type":"file","file_id":"file_1"}}]}]}"#,
        r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#,
        r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#,
        r#"{"tools":[{"container":{"type":"auto","file_ids":["file_1"]}}]}"#,
        r#"{"container":{"id":"container_1"}}"#,
        r#"{"cachedContent":"cachedContents/1"}"#,
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://x/v1beta/files/1"}}]}]}"#,
        r#"{"contents":[{"parts":[{"file_data":{"file_uri":"https://x/v1beta/files/1"}}]}]}"#,
        r#"{"container":{"skills":[{"type":"custom","skill_id":"skill_1"}]}}"#,
        r#"{"tools":[{"type":"shell","environment":{"skills":[{"skill_id":"skill_1"}]}}]}"#,
        r#"{"tools":[{"fileSearch":{"fileSearchStoreNames":["fileSearchStores/1"]}}]}"#,
        r#"{"tools":[{"file_search":{"file_search_store_names":["fileSearchStores/1"]}}]}"#,
        r#"{"tools":[{"type":"collections_search","collection_ids":["collection_1"]}]}"#,
        r#"{"tools":[{"retrieval":{"vertexAiSearch":{"datastore":"projects/1"}}}]}"#,
        r#"{"tools":[{"retrieval":{"vertexRagStore":{"ragResources":[{"ragCorpus":"c"}]}}}]}"#,
        r#"{"messages":[{"content":[{"image":{"source":{"s3Location":{"uri":"s3://b/k"}}}}]}]}"#,
        r#"{"input":[{"type":"video","uri":"https://x/v1beta/files/1"}]}"#,
        r#"{"audio":{"format":"wav","voice":{"id":"voice_1"}}}"#,
        r#"{"data_sources":[{"parameters":{"authentication":{"type":"system_assigned_managed_identity"}}}]}"#,
        r#"{"previous_response_id":"resp_1""#,
    ] {
        let refused = refuse_body(&shared, &chat, body.as_bytes());
        assert_eq!(refused, Err(Refusal::SharedAccount), "{body}");
        assert_eq!(refuse_body(&own, &chat, body.as_bytes()), Ok(()), "{body}");
    }
    for items in [
        r#"{"input":[{"id":"msg_1"}]}"#,
        r#"{"input":[{"type":"reasoning","id":"rs_1"}]}"#,
    ] {
        let refused = refuse_body(&shared, &ask(Operation::Responses), items.as_bytes());
        assert_eq!(refused, Err(Refusal::SharedAccount), "{items}");
    }
    let later = Ask {
        deferred: true,
        ..chat
    };
    let refused = refuse_body(&shared, &later, b"{}");
    assert_eq!(
        refused,
        Err(Refusal::SharedAccount),
        "nobody could fetch it"
    );
}

#[test]
fn bodies_that_merely_speak_of_such_things_pass() {
    let (_, shared, _) = credentials();
    for body in [
        r#"{"previous_response_id":null,"conversation":"","prompt":"file_id"}"#,
        r#"{"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}},"required":["file_id"]}}}]}"#,
        r#"{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"f"}}]}]}"#,
        r#"{"contents":[{"parts":[{"functionCall":{"args":{"fileId":"f"}}}]}]}"#,
        r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"file_id\":\"f\"}"}}]}]}"#,
        r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}],"audio":{"voice":"alloy"}}"#,
        r#"{"input":"previous_response_id","n":1.5,"stream":true,"seed":-1}"#,
        "--boundary\r\ncontent-disposition: form-data; name=\"file\"\r\n",
        "",
    ] {
        assert_eq!(
            refuse_body(&shared, &ask(Operation::ChatCompletions), body.as_bytes()),
            Ok(()),
            "{body}"
        );
    }
}

#[test]
fn a_requests_name_is_the_tenants_own_and_stays_the_same_for_it() {
    let (own, shared, _) = credentials();
    let sent = |credential: &Credential, tenant: &str| {
        let mut headers = HeaderMap::new();
        for name in [
            "idempotency-key",
            "x-client-request-id",
            "x-idempotency-key",
        ] {
            headers.append(name, HeaderValue::from_static("retry-1"));
        }
        headers.append("idempotency-key", HeaderValue::from_static("retry-2"));
        headers.insert("openai-project", HeaderValue::from_static("proj_2"));
        headers.insert("x-other", HeaderValue::from_static("retry-1"));
        separate(credential, &tenant.parse().expect("an id"), &mut headers);
        headers
    };
    let acme = sent(&shared, "acme");
    assert_eq!(acme, sent(&shared, "acme"));
    let globex = sent(&shared, "globex");
    let values = |headers: &HeaderMap| -> Vec<String> {
        let named = headers.iter().filter(|(name, _)| names_a_request(name));
        named
            .map(|(_, value)| value.to_str().expect("a text").to_owned())
            .collect()
    };
    let mut all = values(&acme);
    all.extend(values(&globex));
    assert!(all.iter().all(|value| value.len() == 36), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8, "no two are alike: {all:?}");
    assert_eq!(acme.get("x-other").expect("it"), "retry-1");
    assert!(!acme.contains_key("openai-project"));
    let untouched = sent(&own, "acme");
    assert_eq!(untouched.get("idempotency-key").expect("it"), "retry-1");
    assert!(untouched.contains_key("openai-project"));
}
