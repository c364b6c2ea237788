use std::sync::Mutex;

use http::Request;
use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use object_store::client::{HttpRequestBody, HttpResponseBody};

use super::*;

/// Answers everything with one status, and keeps what it was sent.
#[derive(Debug)]
struct Stub(Mutex<Vec<HttpRequest>>, u16);

#[async_trait]
impl HttpService for Stub {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.0.lock().expect("no panic").push(request);
        let answer = http::Response::builder().status(self.1);
        Ok(answer
            .body(HttpResponseBody::from(Vec::<u8>::new()))
            .expect("an answer"))
    }
}

fn client(status: u16) -> Client<Stub> {
    let signature = OnceLock::new();
    let credential = AwsCredential {
        key_id: "AKID".to_owned(),
        secret_key: "sk-canary-aws".to_owned(),
        token: Some("session".to_owned()),
    };
    let set = signature.set(Signature {
        credentials: Arc::new(StaticCredentialProvider::new(credential)),
        region: "eu-central-1".to_owned(),
    });
    set.expect("unset");
    Client {
        client: Stub(Mutex::default(), status),
        signature: Arc::new(signature),
    }
}

fn put(errand: Option<Errand>) -> HttpRequest {
    let mut request = Request::put("https://s3.example/bucket/audit/x")
        .header("x-amz-content-sha256", "00ff")
        .header("authorization", "signed before")
        .body(HttpRequestBody::from(b"body".to_vec()))
        .expect("a request");
    if let Some(errand) = errand {
        request.extensions_mut().insert(errand);
    }
    request
}

fn errand(lock: Option<Lock>) -> Errand {
    let status = Arc::default();
    Errand { lock, status }
}

#[tokio::test]
async fn a_lock_goes_along_and_is_signed_with_everything_else() {
    let client = client(200);
    for (mode, said) in [
        (ObjectLock::Compliance, "COMPLIANCE"),
        (ObjectLock::Governance, "GOVERNANCE"),
    ] {
        let until = "2027-02-28".parse().expect("a day");
        let errand = errand(Some(Lock { mode, until }));
        client.call(put(Some(errand))).await.expect("an answer");
        let sent = client.client.0.lock().expect("no panic").pop();
        let headers = sent.expect("a request").headers().clone();
        let header = |name| headers[name].to_str().expect("text").to_owned();
        assert_eq!(header("x-amz-object-lock-mode"), said);
        let until = header("x-amz-object-lock-retain-until-date");
        assert_eq!(until, "2027-02-28T00:00:00Z");
        assert_eq!(header("x-amz-content-sha256"), "00ff");
        let signed = header("authorization");
        assert!(signed.contains("/eu-central-1/s3/aws4_request"), "{signed}");
        let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-object-lock-mode;x-amz-object-lock-retain-until-date;x-amz-sdk-checksum-algorithm;x-amz-security-token";
        assert!(signed.contains(names), "{signed}");
    }
}

#[tokio::test]
async fn a_request_without_a_lock_stays_as_it_is_and_its_status_is_told() {
    let client = client(503);
    let errand = errand(None);
    client
        .call(put(Some(errand.clone())))
        .await
        .expect("an answer");
    client.call(put(None)).await.expect("an answer");
    assert_eq!(errand.status.load(Ordering::Relaxed), 503);
    for sent in client.client.0.lock().expect("no panic").iter() {
        assert_eq!(sent.headers()["authorization"], "signed before");
        assert!(!sent.headers().contains_key("x-amz-object-lock-mode"));
    }
}

#[tokio::test]
async fn a_lock_that_cannot_be_asked_for_keeps_the_object_from_being_put() {
    let mut client = client(200);
    client.signature = Arc::default();
    let mode = ObjectLock::Compliance;
    let until = "2027-02-28".parse().expect("a day");
    let put = client
        .call(put(Some(errand(Some(Lock { mode, until })))))
        .await;
    assert!(put.is_err());
    assert!(client.client.0.lock().expect("no panic").is_empty());
}
