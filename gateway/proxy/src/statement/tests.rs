use std::sync::mpsc;

use tollgate_core::report::Dimension;

use super::asked::read;
use super::*;
use crate::fakes::noon;

fn asked(query: &str) -> Result<Question, &'static str> {
    let tenant = "acme".parse().unwrap();
    let view = View::Agent("bot".parse().unwrap(), "t-1".parse().unwrap());
    read(query, noon())
        .map(|asked| asked.about(&tenant, &view))
        .map_err(|no| no.code())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn question(tenant: &str, from: &str) -> Question {
    Question {
        tenant: tenant.parse().unwrap(),
        agent: None,
        by: vec![Dimension::Day],
        from: at(from),
        to: None,
    }
}

#[test]
fn without_a_query_a_statement_is_of_today_and_of_the_asking_agent() {
    let question = asked("").unwrap();
    assert_eq!(question.agent.unwrap().as_str(), "bot");
    assert_eq!(question.by, [Dimension::Model]);
    let midnight = Timestamp::from_seconds(noon().as_seconds() / 86_400 * 86_400);
    assert_eq!((question.from, question.to), (midnight, None));
    let whole = read("", noon())
        .unwrap()
        .about(&"acme".parse().unwrap(), &View::Tenant);
    assert_eq!(whole.agent, None);
    assert_eq!(whole.by, [Dimension::Agent, Dimension::Model]);
}

#[test]
fn a_statement_can_be_of_some_days_and_by_something_else() {
    let question = asked("by=day,model&from=2026-11-01&to=2026-11-03").unwrap();
    assert_eq!(question.by, [Dimension::Day, Dimension::Model]);
    assert_eq!(question.from, at("2026-11-01T00:00:00Z"));
    assert_eq!(question.to, Some(at("2026-11-04T00:00:00Z")));
    let escaped = asked("by=day%2Cmodel&from=2026-11-01T08%3A00%3A00Z&to=2026-11-01").unwrap();
    assert_eq!(escaped.from, at("2026-11-01T08:00:00Z"));
    // A day that is named alone as the end is that day.
    assert_eq!(
        asked("to=2026-10-02").unwrap().from,
        at("2026-10-02T00:00:00Z")
    );
    let token = asked("key=eyJhbGciOiJFZERTQSJ9.eyJ9.c2ln&by=model").unwrap();
    assert_eq!(token.by, [Dimension::Model]);
}

#[test]
fn what_cannot_be_asked_is_refused_and_not_passed_over() {
    for query in [
        "tenant=globex",
        "agent=other",
        "key=acme",
        "by=colour",
        "by=",
        "by=agent,task,model,day",
        "by=day&by=model",
        "from=yesterday",
        "from=2026-01-01&to=2026-03-01",
        "from=2020-01-01",
        "from=2026-11-03&to=2026-11-01",
        "%62y=day",
    ] {
        assert_eq!(asked(query), Err("malformed_request"), "{query}");
    }
}

/// Says when a reading begins, and lets each end when it is told to.
struct Slow {
    begun: mpsc::Sender<String>,
    go: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl UsageReports for Slow {
    fn usage(&self, question: &Question) -> Result<Value, tollgate_core::budget::StoreError> {
        self.begun.send(question.tenant.to_string()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Ok(json!({ "of": question.tenant }))
    }
}

fn slow() -> (Arc<Readings>, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let ((begun, beginnings), (go, told)) = (mpsc::channel(), mpsc::channel());
    let reports = Slow {
        begun,
        go: std::sync::Mutex::new(told),
    };
    (Arc::new(Readings::of(Arc::new(reports))), beginnings, go)
}

#[tokio::test]
async fn the_same_question_a_moment_later_is_not_read_again() {
    let (readings, beginnings, go) = slow();
    go.send(()).unwrap();
    let asked = || readings.read(question("acme", "2026-11-01T00:00:00Z"));
    let first = asked().await.unwrap();
    let second = asked().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(beginnings.try_iter().collect::<Vec<_>>(), ["acme"]);
    go.send(()).unwrap();
    let other = readings
        .read(question("acme", "2026-11-02T00:00:00Z"))
        .await;
    assert_eq!(*other.unwrap(), json!({"of": "acme"}));
}

#[tokio::test]
async fn of_one_tenant_there_is_one_reading_and_others_are_told_to_come_back() {
    let (readings, beginnings, go) = slow();
    let first = tokio::spawn({
        let readings = Arc::clone(&readings);
        async move {
            readings
                .read(question("acme", "2026-11-01T00:00:00Z"))
                .await
        }
    });
    let begun = tokio::task::spawn_blocking(move || (beginnings.recv().unwrap(), beginnings));
    let (begun, beginnings) = begun.await.unwrap();
    assert_eq!(begun, "acme");
    // Its client leaves; the reading keeps its place all the same.
    first.abort();
    let second = readings
        .read(question("acme", "2026-11-02T00:00:00Z"))
        .await;
    assert!(matches!(second, Err(Unstated::Busy)), "{second:?}");
    for _ in 0..2 {
        go.send(()).unwrap();
    }
    let other = readings
        .read(question("globex", "2026-11-01T00:00:00Z"))
        .await;
    assert_eq!(*other.unwrap(), json!({"of": "globex"}));
    assert_eq!(beginnings.try_iter().collect::<Vec<_>>(), ["globex"]);
}
