use expect_test::{Expect, expect};

use super::*;

fn check(messages: Vec<String>, expected: Expect) {
    expected.assert_eq(&messages.join("\n"));
}

#[test]
fn good_names_have_no_messages() {
    for name in ["a", "0", "a-b", "123-abc", &"a".repeat(63)] {
        assert!(dns1123_label(name).is_empty(), "{name}");
    }
    for name in ["a.b", "example.com", "a", "1.2.3"] {
        assert!(dns1123_subdomain(name).is_empty(), "{name}");
    }
    for key in ["app", "app.kubernetes.io/name", "A_b.c-d", "example.com/X"] {
        assert!(qualified_name(key).is_empty(), "{key}");
    }
    for value in ["", "a", "A.b_c-9"] {
        assert!(label_value(value).is_empty(), "{value}");
    }
    assert!(port_name("http-1").is_empty());
    assert!(percent("25%").is_empty());
    assert!(ip("10.0.0.1").is_empty() && ip("2001:db8::1").is_empty());
    assert!(cidr("10.0.0.0/8").is_empty() && cidr("2001:db8::/64").is_empty());
    assert!(interface_address("10.0.0.5/8").is_empty());
}

#[test]
fn bad_names_say_what_is_wrong() {
    check(
        dns1123_label("A"),
        expect![
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ],
    );
    check(dns1123_label("a.b"), expect!["must not contain dots"]);
    check(
        dns1123_subdomain("_"),
        expect![[
            r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]],
    );
    check(
        dns1035_label("1a"),
        expect![
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
        ],
    );
    check(
        qualified_name("/"),
        expect![[r"
            prefix part must be non-empty
            name part must be non-empty
            name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]],
    );
    check(
        label_value("-"),
        expect![
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        ],
    );
    check(
        config_map_key("../x"),
        expect![[r"
            a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            must not start with '..'"]],
    );
    check(
        port_name("--"),
        expect![[r"
            must contain at least one letter (a-z)
            must not contain consecutive hyphens
            must not begin or end with a hyphen"]],
    );
    check(
        port_number(0),
        expect!["must be between 1 and 65535, inclusive"],
    );
    check(
        path_segment_name("a/b%"),
        expect![[r"
        may not contain '/'
        may not contain '%'"]],
    );
}

#[test]
fn addresses_are_strict_and_lenient() {
    check(ip("10.0.0.01"), expect!["must not have leading 0s"]);
    check(
        ip("::ffff:1.2.3.4"),
        expect!["must not be an IPv4-mapped IPv6 address"],
    );
    check(
        ip("2001:DB8::1"),
        expect![[r#"must be in canonical form ("2001:db8::1")"#]],
    );
    check(
        ip("x"),
        expect!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
    );
    assert!(legacy_ip("010.0.0.1", false).is_empty());
    check(
        cidr("10.0.0.1/8"),
        expect!["must not have bits set beyond the prefix length"],
    );
    check(
        cidr("10.0.0.0/08"),
        expect!["must not have leading 0s in IP or prefix length"],
    );
    check(
        cidr("10.0.0.0"),
        expect!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"],
    );
}

#[test]
fn generated_names_fit_a_label() {
    assert_eq!(generate_name("web-", "x7k2p"), "web-x7k2p");
    assert_eq!(generate_name(&"a".repeat(80), "x7k2p").len(), 63);
}

#[test]
fn odd_spellings_of_addresses_are_warned_of() {
    for (value, wanted) in [
        ("1.2.3.4", None),
        ("2001:db8::1", None),
        (
            "01.2.3.4",
            Some("non-standard IP address \"01.2.3.4\" is invalid: use \"1.2.3.4\""),
        ),
        (
            "::ffff:1.2.3.4",
            Some("non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""),
        ),
        (
            "2001:DB8::1",
            Some(
                "IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            ),
        ),
    ] {
        assert_eq!(ip_warning(value).as_deref(), wanted, "{value}");
    }
    assert_eq!(
        cidr_warnings("10.0.0.1/8"),
        [
            "CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
        ]
    );
    assert!(cidr_warnings("2001:db8::/64").is_empty());
}
