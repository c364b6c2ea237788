use std::fs;

use tollgate_core::audit::Name;

use super::*;

fn name() -> Name {
    "audit/acme/date=2026-11-18/r1-000000000001.jsonl"
        .parse()
        .expect("a name")
}

#[tokio::test]
async fn a_name_in_a_directory_is_given_once_and_its_file_is_read_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = Place::Directory(dir.path().join("target"));
    let store = Store::connect(&StoreConfig::new(place), &[]).expect("a store");
    let name = name();
    assert!(store.get(&name).await.is_err());
    let path = dir.path().join("target").join(name.to_string());
    fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    let left_behind = format!("{}.unfinished", path.display());
    fs::write(&left_behind, "half").expect("writable");
    for (bytes, put) in [("one", Put::Stored), ("two", Put::Taken)] {
        let bytes = Bytes::from_static(bytes.as_bytes());
        assert_eq!(store.put(&name, bytes, None).await.expect("writable"), put);
    }
    assert_eq!(store.get(&name).await.expect("readable"), "one");
    assert!(
        fs::metadata(&path)
            .expect("a file")
            .permissions()
            .readonly()
    );
    assert!(!fs::exists(&left_behind).expect("readable"));
}

#[test]
fn a_place_is_a_url_that_means_the_same_to_everybody() {
    for url in [
        "file:///var/records",
        "s3://my-bucket",
        "s3://my-bucket/some/prefix",
        "gs://my_bucket.example/x",
        "az://container",
    ] {
        let place: Place = url.parse().expect(url);
        assert_eq!(place.to_string(), url);
    }
    assert_eq!(
        "s3://my-bucket/x/".parse(),
        "s3://my-bucket/x".parse::<Place>()
    );
    for url in [
        "",
        "/var/records",
        "file://var/records",
        "file:///",
        "file:///var/../etc",
        "s3://",
        "s3://ab",
        "s3://My-Bucket",
        "s3://key:secret@my-bucket",
        "s3://my-bucket//x",
        "s3://my-bucket/../other",
        "s3://my-bucket/a%2fb",
        "s3://my-bucket/x?versions",
        "http://my-bucket/x",
        "memory://my-bucket",
    ] {
        assert_eq!(url.parse::<Place>(), Err(NotAPlace), "{url}");
    }
}

#[test]
fn the_environment_says_who_asks_and_never_where_to() {
    let config = StoreConfig::new("s3://my-bucket".parse().expect("a place"));
    let variables = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "sk-canary-aws"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let objects = objects(&config, &variables).expect("a store");
    let shown = format!("{:?}", objects.store);
    assert!(
        shown.contains("https://s3.us-east-1.amazonaws.com/my-bucket"),
        "{shown}"
    );
    assert!(shown.contains("skip_signature: false"), "{shown}");
    assert!(!shown.contains("127.0.0.1"), "{shown}");
    let half = [("AWS_ACCESS_KEY_ID".to_owned(), "id".to_owned())];
    assert!(super::objects(&config, &half).is_err());
}
