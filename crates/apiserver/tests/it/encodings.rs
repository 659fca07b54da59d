//! Answers in protobuf and CBOR: what is read in one encoding is what was written in another.

use http::Method;
use http_body_util::BodyExt;
use machinery::codec::{decode_cbor_value, encode_cbor};
use serde_json::{Value, json};

use crate::harness::Cluster;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CBOR: &str = "application/cbor";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// One answer's media type and bytes.
async fn bytes_of(
    cluster: &Cluster,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, Vec<u8>) {
    let answer = cluster.admin.open(Method::GET, path, headers, "").await;
    let (parts, body) = answer.into_parts();
    let media = parts.headers["content-type"].to_str().expect("a text");
    let bytes = body.collect().await.expect("a body").to_bytes().to_vec();
    (parts.status.as_u16(), media.to_owned(), bytes)
}

fn map(name: &str, size: usize) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "labels": {"a": "b"}},
        "data": {"k": "v".repeat(size)}, "binaryData": {"b": "AQID"},
    })
}

#[tokio::test]
async fn an_object_goes_out_in_protobuf_and_comes_back() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", 300)).await.ok();
    let path = format!("{MAPS}/a");
    let before = cluster.admin.get(&path).await.ok();
    let (code, media, bytes) = bytes_of(&cluster, &path, &[("accept", PROTOBUF)]).await;
    assert_eq!((code, media.as_str()), (200, PROTOBUF));
    assert!(bytes.starts_with(b"k8s\0"));
    let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
    let answer = cluster.admin.send(Method::PUT, &path, &headers, bytes);
    assert_eq!(answer.await.ok(), before);
}

#[tokio::test]
async fn errors_come_in_protobuf_too_and_in_json_where_nothing_fits() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/none");
    let (code, media, bytes) = bytes_of(&cluster, &path, &[("accept", PROTOBUF)]).await;
    assert_eq!((code, media.as_str()), (404, PROTOBUF));
    assert!(String::from_utf8_lossy(&bytes).contains("configmaps \"none\" not found"));
    let refused = cluster
        .admin
        .send(
            Method::GET,
            MAPS,
            &[("accept", "application/json;as=Odd;v=v1;g=meta.k8s.io")],
            "",
        )
        .await
        .refused(406);
    let wanted = "only the following media types are accepted: application/json, application/yaml, \
        application/vnd.kubernetes.protobuf";
    assert_eq!(refused.message(), wanted);
    let yaml = [("accept", "application/yaml")];
    let watch = format!("{MAPS}?watch=true");
    let refused = cluster.admin.send(Method::GET, &watch, &yaml, "").await;
    let wanted = "only the following media types are accepted: application/json;stream=watch, \
        application/vnd.kubernetes.protobuf;stream=watch";
    assert_eq!(refused.refused(406).message(), wanted);
}

#[tokio::test]
async fn cbor_goes_both_ways() {
    let cluster = Cluster::start().await;
    let headers = [("content-type", CBOR), ("accept", CBOR)];
    let body = encode_cbor(&map("a", 300));
    let made = cluster.admin.send(Method::POST, MAPS, &headers, body).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let path = format!("{MAPS}/a");
    let applied = encode_cbor(&json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"more": "x"},
    }));
    let headers = [("content-type", "application/apply-patch+cbor")];
    let apply = format!("{path}?fieldManager=me");
    let answer = cluster.admin.send(Method::PATCH, &apply, &headers, applied);
    assert_eq!(answer.await.ok()["data"]["more"], "x");
    let (_, media, bytes) = bytes_of(&cluster, &path, &[("accept", CBOR)]).await;
    assert_eq!(media, CBOR);
    let shown = decode_cbor_value(&bytes).expect("CBOR");
    assert_eq!(shown, cluster.admin.get(&path).await.ok());
    let (_, _, bytes) = bytes_of(&cluster, MAPS, &[("accept", CBOR)]).await;
    let list = decode_cbor_value(&bytes).expect("CBOR");
    assert_eq!(list, cluster.admin.get(MAPS).await.ok());
}

/// Lists small and big, plain and compressed, say the same in every encoding.
#[tokio::test]
async fn big_lists_are_streamed_in_every_encoding() {
    let cluster = Cluster::start().await;
    for i in 0..40 {
        let object = map(&format!("m{i:02}"), 10_000);
        cluster.admin.post(MAPS, object).await.ok();
    }
    let wanted = cluster.admin.get(MAPS).await.ok();
    let (_, _, cbor) = bytes_of(&cluster, MAPS, &[("accept", CBOR)]).await;
    assert_eq!(decode_cbor_value(&cbor).expect("CBOR"), wanted);
    let (_, _, plain) = bytes_of(&cluster, MAPS, &[("accept", PROTOBUF)]).await;
    let gzip = [("accept", PROTOBUF), ("accept-encoding", "gzip")];
    let (_, _, packed) = bytes_of(&cluster, MAPS, &gzip).await;
    assert!(packed.len() < plain.len() / 4);
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(&packed[..]);
    std::io::Read::read_to_end(&mut reader, &mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain);
    // The length in the envelope is that of what follows it, up to the envelope's own end.
    let raw = &plain[..plain.len() - 4];
    let length = raw.iter().skip(4 + 2 + 2 + 2 + 2 + "ConfigMapList".len());
    let bytes: Vec<u8> = length.skip(1).take(3).copied().collect();
    let said = bytes
        .iter()
        .rev()
        .fold(0, |n, b| n << 7 | usize::from(b & 0x7f));
    let head = 4 + 2 + 2 + 2 + 2 + "ConfigMapList".len() + 1 + 3;
    assert_eq!(said, raw.len() - head);
}

#[tokio::test]
async fn a_watch_sends_frames() {
    let cluster = Cluster::start().await;
    cluster.admin.post(MAPS, map("a", 10)).await.ok();
    let path = format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion=0");
    let (_, media, bytes) = bytes_of(&cluster, &path, &[("accept", PROTOBUF)]).await;
    assert_eq!(media, "application/vnd.kubernetes.protobuf;stream=watch");
    let length = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    assert_eq!(&bytes[4..11], b"\x0a\x05ADDED");
    assert!(bytes.len() >= 4 + length as usize);
    let (_, media, bytes) = bytes_of(&cluster, &path, &[("accept", CBOR)]).await;
    assert_eq!(media, "application/cbor-seq");
    let event = decode_cbor_value(&bytes).expect("one event");
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("a"))
    );
}
