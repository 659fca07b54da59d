//! Who asks, as servers behind this one are told.
//!
//! Behaviour: `k8s.io/client-go/transport/round_trippers.go` (`SetAuthProxyHeaders`).

use access::User;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// Puts the user into headers, in place of whatever a client had put there.
pub(super) fn set_user(headers: &mut HeaderMap, user: &User) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    let mut put = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        // Whoever has a name that no header can carry is told of as far as headers go.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    put("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        put("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        for value in values {
            put(&name, value);
        }
    }
}

/// A key as part of a header's name: what may not stand there is a percent sign and two digits.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        match plain {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_does_not_say_who_it_is() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-remote-user", "root"), ("x-remote-extra-a", "b")] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut user = User::new("jane", &["devs", "ops"]);
        let extra = ("example.com/a%".to_owned(), vec!["1".to_owned()]);
        user.extra.extend([extra]);
        set_user(&mut headers, &user);
        let all: Vec<String> = headers
            .iter()
            .map(|(k, v)| format!("{k}={}", v.to_str().unwrap_or("")))
            .collect();
        let wanted = [
            "x-remote-user=jane",
            "x-remote-group=devs",
            "x-remote-group=ops",
            "x-remote-extra-example.com%2fa%25=1",
        ];
        for line in wanted {
            assert!(all.iter().any(|l| l == line), "{line}: {all:?}");
        }
        assert_eq!(headers.len(), wanted.len());
    }
}
