//! What a registry asks for when it answers 401.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Uri};

use super::failure::Failure;

/// The first challenge that is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the challenges of an answer.
    pub(super) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let challenges = texts
            .iter()
            .filter_map(|text| http_auth::parse_challenges(text).ok());
        let mut understood: Vec<Challenge> = challenges.flatten().filter_map(understand).collect();
        // A token is worth less to a thief than a password.
        understood.sort_by_key(|challenge| *challenge == Challenge::Basic);
        understood.into_iter().next()
    }
}

fn understand(challenge: http_auth::ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        let found = challenge
            .params
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    match challenge.scheme {
        scheme if scheme.eq_ignore_ascii_case("Basic") => Some(Challenge::Basic),
        scheme if scheme.eq_ignore_ascii_case("Bearer") => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
        }),
        _ => None,
    }
}

/// The address of a token service. A registry reached over TLS may not send us to one without: what is shown there would be
/// readable on the way.
pub(super) fn token_service(realm: &str, registry: &Uri) -> Result<Uri, Failure> {
    let refuse = |why: &str| Failure::Unauthorized(format!("failed to authorize: {why}"));
    let service: Uri = realm
        .parse()
        .map_err(|_| refuse("the registry names no usable token service"))?;
    match service.scheme_str() {
        Some("https") => Ok(service),
        Some("http") if registry.scheme_str() == Some("http") => Ok(service),
        _ => Err(refuse("the registry names a token service without TLS")),
    }
}
