//! URLs and their tokens.

use std::time::{Duration, Instant};

use super::client::refusal;
use super::{Harness, all};
use crate::token::{LIFETIME, MOST, Tokens};
use crate::{AttachRequest, ExecRequest, PortForwardRequest, StreamOptions, UrlError};

#[tokio::test]
async fn a_token_is_good_once_and_for_its_path() {
    let harness = Harness::new().await;
    let url = harness.exec("wait", all());
    assert!(
        url.starts_with(&format!("http://{}/exec/", harness.server.address())),
        "{url}"
    );
    // It is spent even by a request that is refused.
    assert_eq!(refusal(&url, &[]).await.0, 400);
    assert_eq!(refusal(&url, &[]).await.0, 404);
    let url = harness.exec("wait", all());
    assert_eq!(
        refusal(&url.replace("/exec/", "/attach/"), &[]).await.0,
        404
    );
    assert_eq!(refusal(&url, &[]).await.0, 404);
    let unknown = url.rsplit_once('/').unwrap().0.to_owned() + "/AAAAAAAAAAAAAAAAAAAA";
    assert_eq!(
        refusal(&unknown, &[]).await,
        (http::StatusCode::NOT_FOUND, "404 page not found\n".into())
    );
}

#[tokio::test]
async fn requests_that_get_no_url() {
    let harness = Harness::new().await;
    let exec = |container: &str, options| {
        let (container_id, command) = (container.to_owned(), vec![]);
        harness
            .server
            .exec_url(ExecRequest {
                container_id,
                command,
                options,
            })
            .unwrap_err()
    };
    assert_eq!(exec("", all()).to_string(), "missing required container_id");
    let both = StreamOptions { tty: true, ..all() };
    assert_eq!(
        exec("c", both).to_string(),
        "tty and stderr cannot both be true"
    );
    let attach = AttachRequest {
        container_id: "c".into(),
        options: StreamOptions::default(),
    };
    let error = harness.server.attach_url(attach).unwrap_err();
    assert_eq!(
        error,
        UrlError::Invalid("one of stdin, stdout, or stderr must be set")
    );
    let forward = PortForwardRequest {
        sandbox_id: String::new(),
        ports: vec![],
    };
    let error = harness.server.portforward_url(forward).unwrap_err();
    assert_eq!(error.to_string(), "missing required pod_sandbox_id");
}

#[test]
fn tokens_expire_and_are_limited() {
    let mut tokens = Tokens::new();
    let start = Instant::now();
    let token = tokens.insert(1, start).unwrap();
    assert_eq!(token.len(), 20);
    let late = start + LIFETIME + Duration::from_millis(1);
    assert_eq!(tokens.consume(&token, late), None);
    let token = tokens.insert(2, start).unwrap();
    assert_eq!(tokens.consume(&token, start + LIFETIME), Some(2));
    assert_eq!(tokens.consume(&token, start), None);
    for n in 0..MOST {
        assert!(tokens.insert(n, start).is_some());
    }
    assert_eq!(tokens.insert(0, start), None);
    assert!(tokens.insert(0, late).is_some());
}
