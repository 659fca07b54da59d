use proptest::prelude::*;

use super::*;

#[test]
fn selectors_parse_and_match() {
    let selector = Selector::parse("status.phase!=Running,metadata.name==a").unwrap();
    assert_eq!(
        selector.to_string(),
        "metadata.name=a,status.phase!=Running"
    );
    assert_eq!(selector.required_value("metadata.name"), Some("a"));
    let fields = |phase: &'static str| {
        move |f: &str| match f {
            "metadata.name" => Some("a"),
            "status.phase" => Some(phase),
            _ => None,
        }
    };
    assert!(selector.matches(fields("Pending")));
    assert!(!selector.matches(fields("Running")));
    assert!(
        Selector::parse("spec.x=")
            .unwrap()
            .matches(|_| None::<String>)
    );
    assert!(Selector::parse("").unwrap().is_everything());
}

#[test]
fn errors_have_upstream_wording() {
    let error = |text| Selector::parse(text).unwrap_err();
    assert_eq!(
        error("abc"),
        "invalid selector: 'abc'; can't understand 'abc'"
    );
    assert_eq!(
        error(r"a=\x"),
        r"invalid field selector: invalid escape sequence: \x"
    );
    assert_eq!(
        error("a=b=c"),
        "invalid field selector: unescaped character in value: 61"
    );
}

proptest! {
    #[test]
    fn escaping_round_trips(value in r"[a\\,=x]{0,12}") {
        let selector = Selector::new(vec![Requirement {
            field: "f".to_owned(), value: value.clone(), equal: true,
        }]);
        let again = Selector::parse(&selector.to_string()).unwrap();
        prop_assert_eq!(again.required_value("f"), Some(value.as_str()));
    }
}
