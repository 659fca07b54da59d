//! Who is shown credentials, and what a server cannot make us do.

use base64::Engine;
use http::Uri;
use serde_json::json;

use super::fake::{Fake, answer, honest};
use super::{ALICE, Node, alice, digests, image};
use crate::pull::challenge::token_service;
use crate::pull::credentials::Login;
use crate::pull::{Credentials, PullOptions};

#[test]
fn the_ways_to_log_in() {
    let login = |credentials: &Credentials| credentials.login("docker.io").unwrap();
    let password = Login::Password {
        username: "alice".into(),
        password: "secret".into(),
    };
    assert_eq!(login(&Credentials::default()), Login::Anonymous);
    assert_eq!(login(&alice()), password);
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let with_auth = |auth: String| Credentials {
        auth,
        ..Credentials::default()
    };
    // Some tools pad with zeroes.
    assert_eq!(login(&with_auth(encode("alice:secret\0"))), password);
    assert!(with_auth(encode("alice")).login("docker.io").is_err());
    assert!(with_auth("?".into()).login("docker.io").is_err());

    let at = |server_address: &str| Credentials {
        server_address: server_address.into(),
        ..alice()
    };
    assert_eq!(login(&at("https://index.docker.io/v1/")), password);
    assert_eq!(login(&at("docker.io")), password);
    assert_eq!(login(&at("quay.io")), Login::Anonymous);
    assert!(!format!("{:?} {:?}", alice(), password).contains("secret"));
}

/// Addresses in a manifest are a stranger's: not even asked.
#[tokio::test]
async fn cve_2020_15157_hosts_named_in_manifests_are_not_asked() {
    let small = image("stored elsewhere");
    let (_, config) = digests(&small);
    let blobs = small.clone();
    let foreign = Fake::start(move |seen| honest(&blobs, &seen.path)).await;

    let (kind, bytes) = small.manifest();
    let mut manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    manifest["layers"][0]["urls"] = json!([foreign.url("/urls")]);
    manifest["config"]["urls"] = json!([foreign.url("/urls")]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let registry = Fake::start(move |seen| {
        if seen.authorization.as_deref() != Some(ALICE) {
            return answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "");
        }
        match seen.path.rsplit('/').next().unwrap() {
            "latest" => answer(200, &[("content-type", kind)], manifest.clone()),
            // Not there: a client that trusts `urls` would go and ask.
            _ => answer(404, &[], ""),
        }
    })
    .await;

    let name = format!("{}/small:latest", registry.address);
    let node = Node::new();
    let pulled = node
        .pull_with(&name, &alice(), &PullOptions::default())
        .await;
    let error = pulled.unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("the registry has lost blob {config}")),
        "{error}"
    );
    assert_eq!(foreign.paths(), Vec::<String>::new());

    node.assert_empty();
}

#[tokio::test]
async fn cve_2020_15157_redirects_are_followed_without_credentials() {
    let small = image("stored elsewhere");
    let blobs = small.clone();
    // It asks for what it must not get.
    let foreign = Fake::start(move |seen| match seen.path.ends_with("again") {
        true => answer(401, &[("www-authenticate", "Basic realm=\"f\"")], ""),
        false => honest(&blobs, &seen.path),
    })
    .await;
    let (_, config) = digests(&small);
    let (elsewhere, asks) = (foreign.url("/elsewhere/"), foreign.url("/again"));
    let served = small.clone();
    let registry = Fake::start(move |seen| {
        if seen.authorization.as_deref() != Some(ALICE) {
            return answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "");
        }
        let last = seen.path.rsplit('/').next().unwrap();
        match seen.path.contains("/blobs/") {
            true if seen.path.contains("/greedy/") => answer(307, &[("location", &asks)], ""),
            true => answer(307, &[("location", &format!("{elsewhere}{last}"))], ""),
            false => honest(&served, &seen.path),
        }
    })
    .await;

    let open = PullOptions::default();
    let greedy = format!("{}/greedy/small:latest", registry.address);
    let error = Node::new().pull_with(&greedy, &alice(), &open).await;
    assert!(
        matches!(error, Err(crate::Error::Unauthorized(_))),
        "{error:?}"
    );
    let name = format!("{}/small:latest", registry.address);
    let id = Node::new().pull_with(&name, &alice(), &open).await.unwrap();
    assert_eq!(id, config);
    assert_eq!(foreign.seen().len(), 3);
    assert!(
        foreign
            .seen()
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
}

#[tokio::test]
async fn tokens_come_from_the_service_that_the_registry_names() {
    let service = Fake::start(|seen| {
        let known = seen.authorization.as_deref() == Some(ALICE)
            || seen.body.contains("refresh_token=again");
        match known {
            true => answer(200, &[], r#"{"access_token": "good"}"#),
            false => answer(401, &[], ""),
        }
    })
    .await;
    let small = image("behind tokens");
    let challenge = format!("Bearer realm=\"{}\",service=\"r&d\"", service.url("/token"));
    let registry = Fake::start(move |seen| match seen.authorization.as_deref() {
        Some("Bearer good") => honest(&small, &seen.path),
        _ => answer(401, &[("www-authenticate", &challenge)], ""),
    })
    .await;
    let name = format!("{}/small:latest", registry.address);
    let open = PullOptions::default();
    let refresh = |token: &str| Credentials {
        identity_token: token.into(),
        ..Credentials::default()
    };
    let bearer = |token: &str| Credentials {
        registry_token: token.into(),
        ..Credentials::default()
    };
    for good in [alice(), refresh("again"), bearer("good")] {
        Node::new().pull_with(&name, &good, &open).await.unwrap();
    }
    for bad in [Credentials::default(), refresh("never"), bearer("bad")] {
        let error = Node::new().pull_with(&name, &bad, &open).await.unwrap_err();
        assert!(matches!(error, crate::Error::Unauthorized(_)), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    // The password went to the token service only, the refresh token in a body.
    let shown = registry
        .seen()
        .into_iter()
        .filter_map(|seen| seen.authorization);
    assert!(shown.into_iter().all(|value| value.starts_with("Bearer ")));
    let asked = service.seen();
    let path = "/token?scope=repository%3Asmall%3Apull&service=r%26d";
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("GET", path)
    );
    assert_eq!(
        (asked[1].method.as_str(), asked[1].path.as_str()),
        ("POST", "/token")
    );
    assert_eq!(asked.len(), 4);
}

#[test]
fn a_token_service_without_tls_is_not_trusted_by_a_registry_with() {
    let (tls, plain) = (
        Uri::from_static("https://r"),
        Uri::from_static("http://127.0.0.1:1"),
    );
    assert!(token_service("http://t/token", &tls).is_err());
    assert!(token_service("https://t/token", &tls).is_ok());
    assert!(token_service("http://t/token", &plain).is_ok());
    assert!(token_service("file:///etc/shadow", &plain).is_err());
}

#[tokio::test]
async fn documents_without_end_or_of_two_kinds_are_refused() {
    let small = image("x");
    let (layer, config) = digests(&small);
    let registry = Fake::start(move |seen| {
        let (_, manifest) = small.manifest();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        match seen.path.rsplit('/').next().unwrap() {
            "endless" => answer(200, &[("content-type", kind)], vec![b' '; 5 << 20]),
            "circle" => answer(302, &[("location", "/v2/x/manifests/circle")], ""),
            "index" => {
                let kind = "application/vnd.oci.image.index.v1+json";
                answer(200, &[("content-type", kind)], manifest.to_vec())
            }
            "both" => {
                let mut both: serde_json::Value = serde_json::from_slice(manifest).unwrap();
                both["manifests"] = both["layers"].clone();
                answer(200, &[], both.to_string())
            }
            "path" => {
                let text = String::from_utf8_lossy(manifest);
                answer(
                    200,
                    &[],
                    text.replace(&layer, "sha256:../../../../etc/passwd"),
                )
            }
            "big" => {
                let text = String::from_utf8_lossy(manifest).replace(&config, &layer);
                answer(200, &[], text)
            }
            _ => answer(200, &[], vec![b' '; 5 << 20]),
        }
    })
    .await;
    let node = Node::new();
    for (tag, reason) in [
        (
            "endless",
            "the registry's answer is longer than 4194304 bytes",
        ),
        ("circle", "302 Found"),
        ("index", "is neither an image nor an index of images"),
        ("both", "is neither an image nor an index of images"),
        (
            "path",
            "unsupported digest \"sha256:../../../../etc/passwd\"",
        ),
        ("big", "the registry's answer is longer than 4194304 bytes"),
    ] {
        let name = format!("{}/x:{tag}", registry.address);
        let error = node.pull(&name).await.unwrap_err().to_string();
        assert!(
            error.contains(&name) && error.ends_with(reason),
            "{tag}: {error}"
        );
        node.assert_empty();
    }
}
