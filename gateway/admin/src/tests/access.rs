//! Who may do what, what is recorded of it, and what is told to those who may not.

use std::sync::atomic::Ordering;

use super::*;

/// Everything that can be asked, about `TENANT`.
const ASKED: &[(&str, &str, &str)] = &[
    (
        "POST",
        "/v1/tokens",
        r#"{"tenant":"TENANT","agent":"bot","task":"t-1"}"#,
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"token","tenant":"TENANT","token":"j-1"}"#,
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"task","tenant":"TENANT","task":"t-1"}"#,
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"agent","tenant":"TENANT","agent":"bot"}"#,
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"tenant","tenant":"TENANT"}"#,
    ),
    (
        "POST",
        "/v1/tasks/complete",
        r#"{"tenant":"TENANT","task":"t-1"}"#,
    ),
    (
        "POST",
        "/v1/explain",
        r#"{"method":"GET","path":"/x","identity":{"tenant":"TENANT","agent":"bot","task":"t"}}"#,
    ),
    ("GET", "/v1/budgets/TENANT", ""),
    ("GET", "/v1/live?tenant=TENANT", ""),
    ("GET", "/v1/reports/cost?tenant=TENANT", ""),
    ("GET", "/v1/tenants/TENANT", ""),
    ("GET", "/v1/calls?tenant=TENANT", ""),
    ("GET", "/v1/events?tenant=TENANT", ""),
];

/// Of these, what is for those who mint.
const FOR_MINTERS: usize = 6;

async fn ask(
    admin: &Arc<Admin>,
    who: &str,
    (method, path, body): (&str, &str, &str),
    tenant: &str,
) -> (StatusCode, Value) {
    let method = method.parse().expect("a method");
    let bearer = format!("Bearer {who}");
    let body = body.replace("TENANT", tenant);
    let path = path.replace("TENANT", tenant);
    send(admin, request(method, &path, Some(&bearer), body)).await
}

#[tokio::test]
async fn a_role_reaches_so_far_and_no_further() {
    let admin = admin(vec![]);
    for (place, asked) in ASKED.iter().enumerate() {
        let for_minters = place < FOR_MINTERS;
        for (who, its_own) in [
            (OPERATOR, true),
            (AUDITOR, !for_minters),
            (MINTER, for_minters),
        ] {
            let (status, told) = ask(&admin, who, *asked, "acme").await;
            let expected = if its_own { 200..=201 } else { 403..=403 };
            assert!(
                expected.contains(&status.as_u16()),
                "{who} {asked:?}: {status} {told}"
            );
            if !its_own {
                assert_eq!(told["code"], "forbidden", "{who} {asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_tenant_and_one_that_does_not_exist_are_answered_alike() {
    let admin = admin(vec![]);
    for asked in ASKED {
        for who in [AUDITOR, MINTER] {
            let (status, foreign) = ask(&admin, who, *asked, "globex").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{who} {asked:?}: {foreign}");
            for unknown in ["nobody", "closed"] {
                let answer = ask(&admin, who, *asked, unknown).await;
                assert_eq!(
                    answer,
                    (status, foreign.clone()),
                    "{who} {asked:?} {unknown}"
                );
            }
        }
    }
    for path in [
        "/v1/reports/cost",
        "/v1/live",
        "/v1/live?tenant=..%2Fglobex",
        "/v1/budgets/..%2Fglobex",
        "/v1/tenants/_operator",
    ] {
        let (status, told) = ask(&admin, AUDITOR, ("GET", path, ""), "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {told}");
    }
}

#[tokio::test]
async fn tenants_are_listed_and_shown_to_those_who_may_see_them() {
    let admin = admin(vec![]);
    let listed = |who: &'static str| {
        let admin = Arc::clone(&admin);
        async move { ask(&admin, who, ("GET", "/v1/tenants", ""), "").await }
    };
    let all = json!({"tenants": ["acme", "closed", "globex"]});
    assert_eq!(listed(OPERATOR).await, (StatusCode::OK, all));
    let own = json!({"tenants": ["acme"]});
    assert_eq!(listed(AUDITOR).await, (StatusCode::OK, own));
    assert_eq!(listed(MINTER).await.0, StatusCode::FORBIDDEN);
    let (_, shown) = ask(&admin, AUDITOR, ("GET", "/v1/tenants/acme", ""), "").await;
    assert_eq!(shown["daily_usd"], "5");
    assert_eq!(shown["agents"][0]["daily_usd"], "1");
}

const MINT: (&str, &str, &str) = ASKED[0];
const BALANCE: (&str, &str, &str) = ASKED[7];
const REPORT: (&str, &str, &str) = ("GET", "/v1/reports/cost", "");
const LIVE: (&str, &str, &str) = ("GET", "/v1/live", "");
const CALLS: (&str, &str, &str) = ("GET", "/v1/calls?tenant=TENANT", "");
const EVENTS: (&str, &str, &str) = ("GET", "/v1/events", "");
const SELF: (&str, &str, &str) = ("GET", "/v1/self", "");
const TOO_LATE: (&str, &str, &str) = (
    "POST",
    "/v1/tokens",
    r#"{"tenant":"acme","agent":"bot","task":"finished"}"#,
);

/// Who asks what about whom, the partition it is kept in, and the line there.
type Kept = (
    &'static str,
    (&'static str, &'static str, &'static str),
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const KEPT: &[Kept] = &[
    (OPERATOR, MINT, "acme", "_operator", "olga operator token.mint acme done 201 -"),
    (OPERATOR, BALANCE, "globex", "_operator", "olga operator budget.read globex done 200 -"),
    (OPERATOR, BALANCE, "no", "_operator", "olga operator budget.read no failed 404 tenant_unknown"),
    (OPERATOR, REPORT, "", "_operator", "olga operator report.read * done 200 -"),
    (OPERATOR, LIVE, "", "_operator", "olga operator live.read * done 200 -"),
    (AUDITOR, ASKED[8], "acme", "acme", "alice auditor live.read acme done 200 -"),
    (OPERATOR, EVENTS, "", "_operator", "olga operator events.follow * done 200 -"),
    (AUDITOR, CALLS, "acme", "acme", "alice auditor calls.read acme done 200 -"),
    (AUDITOR, CALLS, "globex", "_operator", "alice auditor calls.read globex denied 403 forbidden"),
    (MINTER, SELF, "", "acme", "mia minter self.read acme done 200 -"),
    (MINTER, EVENTS, "", "_operator", "mia minter events.follow acme denied 403 forbidden"),
    (MINTER, MINT, "acme", "acme", "mia minter token.mint acme done 201 -"),
    (MINTER, TOO_LATE, "", "acme", "mia minter token.mint acme failed 409 task_complete"),
    (MINTER, MINT, "globex", "_operator", "mia minter token.mint globex denied 403 forbidden"),
    (MINTER, BALANCE, "acme", "_operator", "mia minter budget.read acme denied 403 forbidden"),
    (AUDITOR, BALANCE, "acme", "acme", "alice auditor budget.read acme done 200 -"),
    (AUDITOR, REPORT, "", "_operator", "alice auditor report.read * denied 403 forbidden"),
];

#[tokio::test]
async fn each_action_is_one_line_in_the_partition_it_belongs_to() {
    let book = Arc::new(Book::default());
    let admin = admin_with(vec![], Known::default(), Arc::clone(&book));
    for &(who, asked, tenant, partition, line) in KEPT {
        ask(&admin, who, asked, tenant).await;
        let lines = book.lines();
        let (kept_in, kept) = lines.last().expect("a line");
        let words = [
            "tollgate.admin.name",
            "tollgate.admin.role",
            "tollgate.admin.action",
            "tenant.id",
            "tollgate.outcome",
            "http.response.status_code",
            "error.type",
        ];
        let words = words.map(|field| match &kept[field] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        assert_eq!(
            (kept_in.as_str(), words.join(" ").as_str()),
            (partition, line)
        );
    }
    assert_eq!(book.lines().len(), KEPT.len(), "one action, one line");
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_recorded() {
    let book = Arc::new(Book::default());
    let admin = admin_with(vec![], Known::default(), Arc::clone(&book));
    let (_, minted) = ask(&admin, OPERATOR, ASKED[0], "acme").await;
    book.is_full.store(true, Ordering::Relaxed);
    for who in [OPERATOR, AUDITOR, MINTER] {
        for asked in ASKED {
            let (status, told) = ask(&admin, who, *asked, "acme").await;
            assert_eq!(
                status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{who} {asked:?}: {told}"
            );
            assert_eq!(told["code"], "ledger_unavailable");
        }
    }
    book.is_full.store(false, Ordering::Relaxed);
    let token = json!({ "token": minted["token"] });
    let (_, told) = post(&admin, "/v1/tokens/introspect", &token).await;
    assert_eq!(told["active"], true, "the token was not ended: {told}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_midst_leaves_a_line_that_says_so() {
    let book = Arc::new(Book::default());
    let admin = admin_with(vec![], Known::default(), Arc::clone(&book));
    let asked = request(
        Method::GET,
        "/v1/reports/cost?by=forever",
        Some(&format!("Bearer {OPERATOR}")),
        "",
    );
    let answer = send(&admin, asked);
    let left = tokio::time::timeout(Duration::from_millis(20), answer).await;
    assert!(left.is_err(), "the report takes longer");
    let lines = book.lines();
    assert_eq!(lines[0].1["tollgate.outcome"], "interrupted", "{lines:?}");
}

#[tokio::test]
async fn without_a_file_of_credentials_nobody_is_let_in() {
    let admin = admin_with(vec![], Known::locked(), Arc::new(Book::default()));
    for asked in ASKED {
        let (status, told) = ask(&admin, OPERATOR, *asked, "acme").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{told}");
        assert_eq!(told["code"], "credentials_unavailable");
    }
    let (status, told) = send(&admin, request(Method::GET, "/readyz", None, "")).await;
    assert_eq!(status, StatusCode::OK, "calls do without the admin API");
    assert_eq!(told["degraded"], json!(["admin_credentials"]));
}
