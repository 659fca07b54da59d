//! Bootstrap tokens: secrets of `kube-system` by which somebody without a certificate yet is known for a while.
//!
//! `<id>.<secret>`, six and sixteen characters; the secret's object is named after the id. Behaviour:
//! `plugin/pkg/auth/authenticator/token/bootstrap`, `k8s.io/cluster-bootstrap`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use machinery::Object;

use crate::{Lookup, User};

/// The type of the secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What their names start with.
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// The group of all who come with such a token.
pub const GROUP: &str = "system:bootstrappers";
const NAMESPACE: &str = "kube-system";

/// The two halves of a token that has the right shape.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits = |text: &str, length| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.len() == length && text.chars().all(plain)
    };
    (fits(id, 6) && fits(secret, 16)).then_some((id, secret))
}

/// Who comes with this token; `None` when nobody knows it, or not any more.
pub fn user(token: &str, now: Timestamp, lookup: &dyn Lookup) -> Option<User> {
    let (id, secret) = parse(token)?;
    let object = lookup.get("", "secrets", NAMESPACE, &format!("{NAME_PREFIX}{id}"))?;
    if object.deletion_timestamp().is_some() || object.str_at(&["type"]) != SECRET_TYPE {
        return None;
    }
    let data = |key: &str| datum(&object, key);
    let good = ring::digest::digest(&ring::digest::SHA256, data("token-secret").as_bytes());
    let given = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    // Digests of equal length, compared as values: how much of a guess was right does not show in the time it takes.
    if good.as_ref() != given.as_ref() || data("token-id") != id || has_expired(&object, now) {
        return None;
    }
    if data("usage-bootstrap-authentication") != "true" {
        return None;
    }
    let groups = groups(&data("auth-extra-groups"))?;
    Some(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    })
}

fn datum(secret: &Object, key: &str) -> String {
    let decoded = STANDARD.decode(secret.str_at(&["data", key]));
    let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_default()
}

fn has_expired(secret: &Object, now: Timestamp) -> bool {
    match datum(secret, "expiration").as_str() {
        "" => false,
        text => !text.parse().is_ok_and(|at: Timestamp| at > now),
    }
}

/// The groups that a token gives, sorted; `None` when one has no right to its name.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut groups = vec![GROUP.to_owned()];
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ":-".contains(c);
        let ends = rest.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !ends || rest.len() > 256 || !rest.chars().all(fits) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Some(groups)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    struct One(Arc<Object>);

    impl Lookup for One {
        fn get(&self, _: &str, _: &str, _: &str, name: &str) -> Option<Arc<Object>> {
            (self.0.name() == name).then(|| self.0.clone())
        }

        fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
            vec![self.0.clone()]
        }
    }

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn known(token: &str, change: &[(&str, &str)]) -> Option<User> {
        let mut data = json!({
            "token-id": STANDARD.encode("abcdef"),
            "token-secret": STANDARD.encode("0123456789abcdef"),
            "usage-bootstrap-authentication": STANDARD.encode("true"),
        });
        for (key, value) in change {
            data[*key] = STANDARD.encode(value).into();
        }
        let secret = json!({
            "metadata": {"name": "bootstrap-token-abcdef"}, "type": SECRET_TYPE, "data": data,
        });
        let lookup = One(Arc::new(Object::from_value(secret).expect("an object")));
        user(token, NOW.parse().expect("a time"), &lookup)
    }

    #[test]
    fn a_token_is_its_user_until_it_expires() {
        let token = "abcdef.0123456789abcdef";
        let user = known(
            token,
            &[(
                "auth-extra-groups",
                "system:bootstrappers:b,system:bootstrappers:a",
            )],
        );
        let user = user.expect("known");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [GROUP, "system:bootstrappers:a", "system:bootstrappers:b"]
        );
        assert!(known(token, &[("expiration", "2026-01-02T03:04:06Z")]).is_some());
        for change in [
            ("expiration", NOW),
            ("expiration", "soon"),
            ("token-secret", "0123456789abcdee"),
            ("token-id", "abcdeg"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(known(token, &[change]).is_none(), "{change:?}");
        }
        for other in [
            "abcdef.0123456789abcdeg",
            "abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123",
        ] {
            assert!(known(other, &[]).is_none(), "{other}");
        }
    }
}
