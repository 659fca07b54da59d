use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    match Quantity::parse(text) {
        Ok(quantity) => quantity.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn texts_become_canonical() {
    for (text, expected) in [
        ("0", "0"),
        ("0.0", "0"),
        ("-0", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1Ki", "1Ki"),
        ("0.1Ki", "102400m"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("1500e3", "1500e3"),
        ("0.0001n", "1n"),
        ("0.1m", "100u"),
        ("12Mi", "12Mi"),
        ("16Ei", "9223372036854775807"),
        ("123456789012345678901", "123456789012345678901"),
        ("1.500", "1.500"),
        ("-1500m", "-1500m"),
        ("64Gi", "64Gi"),
        ("100Gi", "100Gi"),
        ("2000000", "2M"),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    for text in ["", "a", "1 ", "1.2.3", "1Xi"] {
        assert_eq!(Quantity::parse(text), Err(QuantityError::Format), "{text}");
    }
    for text in ["1ki", "1mi", "1e", "1e99999999999", "1Kim"] {
        assert_eq!(Quantity::parse(text), Err(QuantityError::Suffix), "{text}");
    }
    let long = "9".repeat(60);
    assert_eq!(Quantity::parse(&long), Err(QuantityError::Numeric));
}

#[test]
fn values_round_up() {
    let q = |text| Quantity::parse(text).unwrap();
    assert_eq!(q("1500m").value(), 2);
    assert_eq!(q("100m").milli_value(), 100);
    assert_eq!(q("100u").milli_value(), 1);
    assert_eq!(q("2").milli_value(), 2000);
    assert_eq!(q("1Gi").value(), 1 << 30);
    assert_eq!(q("1e30").value(), i64::MAX);
    assert!(q("1e30") > q("1Ei") && q("999m") < q("1"));
    assert_eq!(q("1Ki"), q("1024"));
}

#[test]
fn arithmetic_keeps_the_format() {
    let mut sum = Quantity::zero();
    for text in ["64Mi", "128Mi", "64Mi"] {
        sum.add(&Quantity::parse(text).unwrap());
    }
    assert_eq!(sum.to_string(), "256Mi");
    sum.sub(&Quantity::parse("1Mi").unwrap());
    assert_eq!(sum.to_string(), "255Mi");
    let mut product = Quantity::parse("250m").unwrap();
    product.mul(3);
    assert_eq!(product.to_string(), "750m");
}

#[test]
fn json_takes_numbers_and_strings() {
    let read = |json: &str| serde_json::from_str::<Quantity>(json).unwrap();
    assert_eq!(read("\"1Gi\"").to_string(), "1Gi");
    assert_eq!(read("2").to_string(), "2");
    assert_eq!(read("0.5").to_string(), "500m");
    assert_eq!(
        serde_json::to_string(&read("\"100m\"")).unwrap(),
        "\"100m\""
    );
}

fn any_quantity() -> impl Strategy<Value = Quantity> {
    let suffix = prop_oneof![
        "", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-6"
    ];
    (-1_000_000_i64..1_000_000, 0_u32..1000, suffix)
        .prop_map(|(whole, part, suffix)| Quantity::parse(&format!("{whole}.{part}{suffix}")))
        .prop_map(|q| q.expect("well formed"))
}

proptest! {
    #[test]
    fn printing_and_parsing_agree(q in any_quantity()) {
        let again = Quantity::parse(&q.to_string()).unwrap();
        prop_assert_eq!(&again, &q);
        // A binary amount that is no multiple of 1024 is written without a suffix, and read as a decimal one.
        let once_more = Quantity::parse(&again.to_string()).unwrap();
        prop_assert_eq!(once_more.to_string(), again.to_string());
    }

    #[test]
    fn addition_is_a_group(a in any_quantity(), b in any_quantity(), c in any_quantity()) {
        let sum = |x: &Quantity, y: &Quantity| { let mut s = x.clone(); s.add(y); s };
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        let mut back = sum(&a, &b);
        back.sub(&b);
        prop_assert_eq!(back, a);
    }

    #[test]
    fn values_are_the_ceiling(q in any_quantity()) {
        let value = Quantity::from_int(q.value(), Format::DecimalSi);
        if q.signum() >= 0 { prop_assert!(value >= q); } else { prop_assert!(value <= q); }
    }

    #[test]
    fn any_text_is_handled(text in ".{0,20}") {
        let _ = Quantity::parse(&text);
    }
}
