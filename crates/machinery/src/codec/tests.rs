use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn json_error(text: &str, expected: Expect) {
    let error = decode_json(text.as_bytes()).unwrap_err();
    expected.assert_eq(&error.to_string());
}

#[test]
fn json_reads_as_go_reads_it() {
    let text = r#"{"a":1,"b":1.5,"c":9223372036854775808,"d":-0,"e":[true,null,"x"]}"#;
    let (value, duplicates) = decode_json_value(text.as_bytes()).unwrap();
    assert!(duplicates.is_empty());
    assert_eq!(
        value,
        json!({"a": 1, "b": 1.5, "c": 9_223_372_036_854_775_808.0, "d": 0, "e": [true, null, "x"]})
    );
}

#[test]
fn duplicates_are_reported_and_the_last_counts() {
    let text = r#"{"spec":{"a":1,"a":2,"list":[{"x":1},{"x":1,"x":3,"x":4}]}}"#;
    let decoded = decode_json(text.as_bytes()).unwrap();
    assert_eq!(
        decoded.duplicates,
        [
            "duplicate field \"spec.a\"",
            "duplicate field \"spec.list[1].x\""
        ]
    );
    assert_eq!(decoded.object.at(&["spec", "a"]), Some(&json!(2)));
}

#[test]
fn syntax_errors_sound_like_go() {
    json_error("{", expect!["unexpected end of JSON input"]);
    json_error(
        "{a}",
        expect!["invalid character 'a' looking for beginning of object key string"],
    );
    json_error(
        "{\"a\":x}",
        expect!["invalid character 'x' looking for beginning of value"],
    );
    json_error(
        "{\"a\":1 \"b\"}",
        expect![[r#"invalid character '"' after object key:value pair"#]],
    );
    json_error(
        "{} x",
        expect!["invalid character 'x' after top-level value"],
    );
    json_error(
        "[]",
        expect!["json: cannot unmarshal array into Go value of type map[string]interface {}"],
    );
}

#[test]
fn cve_2019_11253_bodies_are_bounded() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(decode_json_value(deep.as_bytes()).is_err());
    assert!(decode_yaml_value(deep.as_bytes()).is_err());
    let large = vec![b' '; MAX_BODY_BYTES + 1];
    assert!(matches!(
        decode_json(&large),
        Err(DecodeError::TooLarge { .. })
    ));
    assert!(matches!(
        decode_yaml(&large),
        Err(DecodeError::TooLarge { .. })
    ));
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..9 {
        let refs = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(decode_yaml(bomb.as_bytes()).is_err());
}

#[test]
fn yaml_reads_to_the_same_tree() {
    let text = "a: 1\nb: \"1\"\nc: [x, ~, 1.5]\nd:\n  yes_: no\n  1: true\n  t: 2026-01-01\n  o: 0755\ne: &x {k: v}\nf: *x\n";
    let (value, duplicates) = decode_yaml_value(text.as_bytes()).unwrap();
    assert!(duplicates.is_empty());
    expect![[r#"{"a":1,"b":"1","c":["x",null,1.5],"d":{"1":true,"o":493,"t":"2026-01-01","yes_":false},"e":{"k":"v"},"f":{"k":"v"}}"#]].assert_eq(&value.to_string());
    let twice = decode_yaml(b"a: 1\nb: 2\na: 3\n").unwrap();
    assert_eq!(
        twice.duplicates,
        ["yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"]
    );
    assert_eq!(twice.object.at(&["a"]), Some(&json!(3)));
}

#[test]
fn yaml_streams_have_many_documents() {
    let text = "---\na: 1\n---\n# nothing\n---\n{\"b\": 2}\n";
    assert_eq!(
        decode_yaml_documents(text).unwrap(),
        [json!({"a": 1}), json!({"b": 2})]
    );
    assert_eq!(decode_yaml_documents("").unwrap(), Vec::<Value>::new());
}

#[test]
fn overlay_adds_only_what_is_missing() {
    let mut tree =
        json!({"a": 1, "list": [{"x": 1}, {}], "gone": null, "short": [1], "unknown": {}});
    let defaulted =
        json!({"a": 2, "b": 3, "list": [{"x": 9, "y": 2}, {"y": 2}], "gone": 1, "short": [1, 2]});
    overlay(&mut tree, &defaulted);
    let expected = json!({"a": 1, "b": 3, "list": [{"x": 1, "y": 2}, {"y": 2}], "gone": 1, "short": [1], "unknown": {}});
    assert_eq!(tree, expected);
}

fn any_tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_round_trips(tree in any_tree()) {
        let (read, duplicates) = decode_json_value(tree.to_string().as_bytes()).unwrap();
        prop_assert_eq!(read, tree);
        prop_assert!(duplicates.is_empty());
    }

    #[test]
    fn yaml_round_trips(tree in any_tree()) {
        let text = encode_yaml(&tree).unwrap();
        let (read, _) = decode_yaml_value(text.as_bytes()).unwrap();
        prop_assert_eq!(read, tree, "{}", text);
    }

    #[test]
    fn overlay_is_idempotent(tree in any_tree(), more in any_tree()) {
        let mut once = tree;
        overlay(&mut once, &more);
        let mut twice = once.clone();
        overlay(&mut twice, &more);
        prop_assert_eq!(once, twice);
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[test]
fn cbor_is_read_in_all_its_forms() {
    // {"a": 1, "b": [true, null, -2, 1.5]}: texts, definite; then byte strings, self-described, indefinite.
    let wanted = json!({"a": 1, "b": [true, null, -2, 1.5]});
    let texts = from_hex("a2 6161 01 6162 84 f5 f6 21 f93e00");
    let bytes = from_hex("d9d9f7 bf 4161 01 5f 4162 ff 9f f5 f6 21 fb3ff8000000000000 ff ff");
    assert_eq!(decode_cbor_value(&texts).unwrap(), wanted);
    assert_eq!(decode_cbor_value(&bytes).unwrap(), wanted);
    // Bytes that client-go marks as such arrive as JSON has them.
    let marked = from_hex("a1 6164 d6 43 010203");
    assert_eq!(decode_cbor_value(&marked).unwrap(), json!({"d": "AQID"}));
}

#[test]
fn cbor_beyond_its_bounds_is_refused() {
    let deep = [vec![0x81; 500], vec![0x01]].concat();
    for (bytes, why) in [
        (from_hex("a2 6161 01 6161 02"), "duplicate map key"),
        (from_hex("a1 01 02"), "must be a string"),
        (from_hex("1bffffffffffffffff"), "overflows"),
        (from_hex("f97e00"), "NaN"),
        (from_hex("f7"), "simple value"),
        (from_hex("c2 41 01"), "tag 2"),
        (from_hex("9bffffffffffffffff 01"), "unexpected EOF"),
        (from_hex("01 01"), "extraneous data"),
        (from_hex("61 ff"), "malformed"),
        (deep, "max nested level"),
    ] {
        let error = decode_cbor_value(&bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e9..1e9_f64).prop_map(Into::into),
        ".{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn cbor_round_trips(value in any_json()) {
        prop_assert_eq!(decode_cbor_value(&encode_cbor(&value)).unwrap(), value);
    }

    #[test]
    fn no_bytes_make_the_cbor_reader_panic(bytes: Vec<u8>) {
        let _ = decode_cbor_value(&bytes);
    }
}
