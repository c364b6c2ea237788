use std::io::Read;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const CALL: &str = r#"{"tollgate.schema":"tollgate.record/1","tollgate.replica.id":"r1","tollgate.seq":7,"tollgate.prev_hash":"00","tollgate.record.id":"0193a1b2c3d47e5f8a9b0c1d2e3f4a5b","tollgate.started_at":"2026-11-18T12:00:00.000123Z","tenant.id":"acme","gen_ai.agent.id":"bot","tollgate.task.id":"t\"1","tollgate.token.id":"x","gen_ai.provider.name":"openai","http.request.method":"POST","url.path":"/a,b\\n","tollgate.cost.reserved_usd":"1.5","tollgate.ended_at":"2026-11-18T12:00:01.000000Z","tollgate.outcome":"completed","http.response.status_code":200,"tollgate.usage.source":"exact","tollgate.usage":{"input_tokens":12,"pages":3},"tollgate.cost_usd":"-0.000000000001"}"#;
const EVENT: &str = r#"{"tollgate.replica.id":"r1","tollgate.seq":8,"tollgate.prev_hash":"01","tollgate.record.id":"0193a1b2c3d47e5f8a9b0c1d2e3f4a5c","tollgate.event":"admin_action","tollgate.started_at":"2026-11-18T12:00:02.000000Z","tollgate.admin.name":"olga","tenant.id":"*"}"#;

fn segment(lines: &[&str]) -> Vec<u8> {
    let lines = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"]);
    lines.flatten().copied().collect()
}

fn decoded(form: Form, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    decode(form, Box::new(io::Cursor::new(bytes)))?.read_to_end(&mut lines)?;
    Ok(lines)
}

#[test]
fn lines_come_back_byte_for_byte_in_every_form_whatever_they_hold() {
    let odd = [
        "",
        "{}",
        "no JSON",
        r#"{"tollgate.seq":"x"}"#,
        "\u{fffd}\u{0}",
    ];
    let mut lines = vec![CALL, EVENT];
    lines.extend(odd);
    for lines in [&lines[..], &[]] {
        let segment = segment(lines);
        for form in Form::ALL {
            let encoded = encode(form, &segment[..]).expect("encodes");
            let again = decoded(form, encoded).expect("decodes");
            assert!(again == segment, "{form:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_lines_come_back_in_every_form(
        lines in proptest::collection::vec("[^\n]{0,200}", 0..60)
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let segment = segment(&lines);
        for form in Form::ALL {
            let encoded = encode(form, &segment[..]).expect("encodes");
            prop_assert!(decoded(form, encoded).expect("decodes") == segment, "{form:?}");
        }
    }
}

#[test]
fn a_segment_of_many_groups_comes_back_whole() {
    let lines = vec![EVENT; 70_000];
    let segment = segment(&lines);
    let encoded = encode(Form::Parquet, &segment[..]).expect("encodes");
    assert!(encoded.len() * 20 < segment.len(), "{}", encoded.len());
    let file = SerializedFileReader::new(Bytes::from(encoded.clone())).expect("opens");
    assert_eq!(file.num_row_groups(), 3);
    assert!(decoded(Form::Parquet, encoded).expect("decodes") == segment);
}

#[test]
fn a_segment_that_ends_in_the_midst_of_a_line_has_no_columns() {
    let torn = encode(Form::Parquet, &b"{}\n{\"half"[..]);
    assert_eq!(
        torn.map_err(|error| error.kind()),
        Err(io::ErrorKind::InvalidData)
    );
}

fn rows(lines: &[&str]) -> Vec<serde_json::Value> {
    let encoded = encode(Form::Parquet, &segment(lines)[..]).expect("encodes");
    let file = SerializedFileReader::new(Bytes::from(encoded)).expect("opens");
    let rows = file.get_row_iter(None).expect("rows");
    rows.map(|row| {
        let row = row.expect("a row");
        let columns = row.get_column_iter().map(|(name, field)| {
            let value = match field {
                Field::Null => json!(null),
                Field::Str(text) => json!(text),
                Field::Long(number) | Field::TimestampMicros(number) => json!(number),
                Field::Bool(flag) => json!(flag),
                Field::Decimal(decimal) => {
                    assert_eq!((decimal.precision(), decimal.scale()), (38, 12));
                    let bytes = decimal.data().try_into().expect("16 bytes");
                    json!(i128::from_be_bytes(bytes).to_string())
                }
                other => panic!("{name} is {other:?}"),
            };
            (name.clone(), value)
        });
        columns.collect()
    })
    .collect()
}

#[test]
fn columns_say_what_the_line_says_in_types_that_sum_exactly() {
    let [call, event, broken] = &rows(&[CALL, EVENT, "no JSON"])[..] else {
        panic!("three rows");
    };
    for (name, value) in [
        ("record_id", json!("0193a1b2c3d47e5f8a9b0c1d2e3f4a5b")),
        ("event", json!(null)),
        ("tenant", json!("acme")),
        ("task", json!("t\"1")),
        ("path", json!("/a,b\\n")),
        ("started_at", json!(1_795_003_200_000_123_i64)),
        ("elevated", json!(false)),
        ("status", json!(200)),
        ("input_tokens", json!(12)),
        ("output_tokens", json!(0)),
        ("usage", json!(r#"{"input_tokens":12,"pages":3}"#)),
        ("cost_usd", json!("-1")),
        ("reserved_usd", json!("1500000000000")),
        ("reported_usd", json!(null)),
        ("seq", json!(7)),
        ("line", json!(CALL)),
    ] {
        assert_eq!(call[name], value, "{name}");
    }
    for (name, value) in [
        ("event", json!("admin_action")),
        ("admin", json!("olga")),
        ("tenant", json!("*")),
        ("seq", json!(8)),
        ("elevated", json!(null)),
        ("cost_usd", json!(null)),
        ("input_tokens", json!(null)),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    let set = broken.as_object().into_iter().flatten();
    let set: Vec<_> = set.filter(|(_, value)| !value.is_null()).collect();
    assert_eq!(set, [(&"line".to_owned(), &json!("no JSON"))]);
}

#[test]
fn a_column_that_says_something_else_than_its_line_is_not_read() {
    let cheaper = CALL.replace("-0.000000000001", "-0.000000000002");
    let mut rows = columns::Rows::none();
    rows.add(CALL.as_bytes().to_vec().into());
    let mut other = columns::Rows::none();
    other.add(cheaper.into_bytes().into());
    let cost = rows
        .columns
        .iter()
        .position(|(name, _)| *name == "cost_usd");
    let cost = cost.expect("a column");
    rows.columns[cost] = other.columns.swap_remove(cost);
    let forged = parquet::encode_rows(&[rows]).expect("encodes");
    let error = decoded(Form::Parquet, forged).expect_err("forged");
    assert!(error.to_string().contains("column cost_usd"), "{error}");
}

#[test]
fn bytes_that_were_changed_or_cut_off_are_told_of() {
    let segment = segment(&[CALL, EVENT]);
    for form in [Form::Zstd, Form::Parquet] {
        let encoded = encode(form, &segment[..]).expect("encodes");
        let mut told = 0;
        for at in (0..encoded.len()).step_by(13) {
            let mut changed = encoded.clone();
            changed[at] ^= 0x10;
            match decoded(form, changed) {
                Err(_) => told += 1,
                // Parquet has no checksums: what stands in no column is told of by the chain.
                Ok(lines) => assert!(lines == segment || form == Form::Parquet, "{form:?} {at}"),
            }
        }
        assert!(told > encoded.len() / 13 / 3, "{form:?}: {told}");
        for short in [1, 4, encoded.len() / 2] {
            let cut = encoded[..encoded.len() - short].to_vec();
            assert!(
                decoded(form, cut).is_err(),
                "{form:?} without its last {short}"
            );
        }
    }
}
