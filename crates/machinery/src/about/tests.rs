//! The words and forms of both pages; what is wanted is what a stock v1.37 answered.

use expect_test::expect;

use super::*;

fn answer(page: Page, accept: &str) -> Answer {
    let flags = [("v", "0"), ("etcd-servers", "[http://127.0.0.1:2379]")];
    let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let paths = [
        "/",
        "/api/v1",
        "/apis",
        "/metrics/slis",
        "/livez/ping",
        "/livez",
    ];
    let about = About {
        component: "apiserver",
        started: "2026-11-01T22:27:20Z".parse().expect("a time"),
        now: "2026-11-02T00:28:33Z".parse().expect("a time"),
        paths: &paths.map(str::to_owned),
        flags: &flags.into(),
    };
    page.answer(&about, accept, true)
}

#[test]
fn people_get_text() {
    for accept in [
        "",
        "*/*",
        "text/plain",
        "text/*",
        "application/json, */*;q=0.1",
    ] {
        let status = answer(Page::Status, accept);
        assert_eq!(
            (status.code, status.media_type.as_str()),
            (200, "text/plain; charset=utf-8"),
            "{accept}"
        );
        expect![[r#"

            apiserver statusz
            Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.

            Started: Sun Nov  1 22:27:20 UTC 2026
            Up: 2 hr 01 min 13 sec
            Go version: none
            Binary version: 1.37.0
            Emulation version: 1.37
            Paths: /livez /metrics
        "#]]
        .assert_eq(&status.body);
    }
    expect![[r#"

        apiserver flagz
        Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.
        etcd-servers=[http://127.0.0.1:2379]
        v=0
    "#]]
    .assert_eq(&answer(Page::Flags, "text/plain").body);
}

#[test]
fn programs_get_objects() {
    let page = answer(
        Page::Status,
        "application/json;v=v1beta1;g=config.k8s.io;as=Statusz, text/plain;q=0.5",
    );
    let media = "application/json;g=config.k8s.io;v=v1beta1;as=Statusz";
    assert_eq!((page.media_type.as_str(), page.warning), (media, None));
    expect![[r#"
        {
          "apiVersion": "config.k8s.io/v1beta1",
          "binaryVersion": "1.37.0",
          "emulationVersion": "1.37",
          "goVersion": "none",
          "kind": "Statusz",
          "metadata": {
            "name": "apiserver"
          },
          "paths": [
            "/livez",
            "/metrics"
          ],
          "startTime": "2026-11-01T22:27:20Z",
          "uptimeSeconds": 7273
        }"#]]
    .assert_eq(&page.body);
    let page = answer(
        Page::Flags,
        "application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz",
    );
    assert_eq!(
        page.warning.as_deref(),
        Some(
            "299 - \"This version of the flagz endpoint is deprecated. Please use a newer version.\""
        )
    );
    expect![[r#"
        apiVersion: config.k8s.io/v1alpha1
        flags:
          etcd-servers: "[http://127.0.0.1:2379]"
          v: "0"
        kind: Flagz
        metadata:
          name: apiserver
    "#]]
    .assert_eq(&page.body);
}

#[test]
fn what_there_is_no_form_for_is_refused() {
    for accept in [
        "application/json",
        "application/*",
        "text/html",
        "application/json;v=v1;g=config.k8s.io;as=Statusz",
        "application/json;v=v1beta1;g=config.k8s.io;as=Flagz",
        "application/cbor;v=v1beta1;g=config.k8s.io;as=Statusz",
        "text/plain;v=v1beta1;g=config.k8s.io;as=Statusz",
    ] {
        let page = answer(Page::Status, accept);
        assert_eq!(page.code, 406, "{accept}");
        let text = "only the following media types are accepted: application/json, application/yaml, text/plain";
        assert!(page.body.contains(text), "{}", page.body);
    }
}
