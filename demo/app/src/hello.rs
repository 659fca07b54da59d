//! hello-world: says hello, and from which pod.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

/// `Hello world !`, the version if there is one, and the host name.
pub(crate) async fn answer(release: String) -> Response<Full<Bytes>> {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let version = if release.is_empty() {
        String::new()
    } else {
        format!(" {release}")
    };
    let text = format!("Hello world !{version}\nhostname:{}\n", host.trim());
    Response::new(Full::new(Bytes::from(text)))
}
