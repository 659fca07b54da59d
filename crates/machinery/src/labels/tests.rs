use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: Expect) {
    let shown = match Selector::parse(text) {
        Ok(selector) => selector.to_string(),
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn selectors_parse_and_print() {
    check("", expect![""]);
    check("x=a,y=b,z=c", expect!["x=a,y=b,z=c"]);
    check(
        " a = b , c in (e,d), !f,g>3 , h",
        expect!["a=b,c in (d,e),!f,g>3,h"],
    );
    check("x!=a,y==b", expect!["x!=a,y==b"]);
    check("x notin (),y in (,a)", expect!["x notin (),y in (,a)"]);
    check("a=", expect!["a="]);
    check("a=,b", expect!["a=,b"]);
    check("in in (in,notin)", expect!["in in (in,notin)"]);
}

#[test]
fn errors_have_upstream_wording() {
    check(
        "a||b",
        expect![
            "error: unable to parse requirement: <nil>: Invalid value: \"a||b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ],
    );
    check(
        "x=a,",
        expect!["error: found '', expected: identifier after ','"],
    );
    check(
        "=a",
        expect!["error: found '=', expected: !, identifier, or 'end of string'"],
    );
    check(
        "x a",
        expect![
            "error: unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt"
        ],
    );
    check(
        "x=a b",
        expect!["error: found 'b', expected: ',' or 'end of string'"],
    );
    check(
        "x in a",
        expect!["error: unable to parse requirement: found 'a' expected: '('"],
    );
    check(
        "x>a",
        expect![[
            r#"error: unable to parse requirement: values[0]: Invalid value: "a": for 'Gt', 'Lt' operators, the value must be an integer"#
        ]],
    );
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn selectors_match() {
    let set = labels(&[("app", "web"), ("n", "5"), ("empty", "")]);
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app!=web", false),
        ("other!=x", true),
        ("app in (a,web)", true),
        ("app notin (a)", true),
        ("app,!other", true),
        ("!app", false),
        ("n>4", true),
        ("n<5", false),
        ("other>1", false),
        ("empty=", true),
        ("app=web,n=6", false),
    ] {
        let selector = Selector::parse(text).unwrap();
        assert_eq!(selector.matches_map(Some(&set)), expected, "{text}");
    }
    assert!(!Selector::nothing().matches_map(Some(&set)));
    assert!(Selector::from_map(&set).matches_map(Some(&set)));
    assert!(Selector::from_optional(None).unwrap().is_nothing());
    let empty = LabelSelector::default();
    assert!(
        Selector::from_label_selector(&empty)
            .unwrap()
            .is_everything()
    );
}

proptest! {
    #[test]
    fn printing_and_parsing_agree(text in "[a-c!=(),<> in]{0,24}") {
        if let Ok(selector) = Selector::parse(&text) {
            let again = Selector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), selector.to_string());
        }
    }
}
