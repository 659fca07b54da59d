//! Links in proxied answers: what a server behind the proxy says of its own paths leads through the proxy again.
//!
//! HTML is rewritten as it passes; nothing but the addresses in it changes. Behaviour:
//! `k8s.io/apimachinery/pkg/util/proxy/transport.go`.

mod html;

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use futures::stream::{self, StreamExt};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;

use crate::body::{Body, BoxError};
use html::Rewriter;

/// What is packed is unpacked in pieces: a small piece may become a thousand times as much.
const PIECE: usize = 8 << 10;

/// Where links lead.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The path under which the server is reached here.
    pub(super) prefix: String,
    /// The server's own address and port.
    pub(super) target: String,
    /// What the client calls this server.
    pub(super) host: Option<String>,
}

impl Links {
    /// A link as it is to be told; `None`: as it is.
    fn through(&self, link: &str) -> Option<String> {
        let (origin, path) = split(link);
        let host = origin.map(|origin| origin.rsplit("//").next().unwrap_or_default());
        let of_client = host.is_some() && host == self.host.as_deref();
        let is_own = of_client || host.is_none_or(|host| host == self.target);
        if !is_own || !path.starts_with('/') {
            return None;
        }
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (path, rest) = path.split_at(end);
        let origin = origin.filter(|_| of_client).unwrap_or_default();
        if path.starts_with(&self.prefix) {
            return Some(format!("{origin}{path}{rest}"));
        }
        Some(format!("{origin}{}{}{rest}", self.prefix, clean(path)))
    }

    /// The answer with its links changed.
    pub(super) fn rewrite<B>(&self, head: &mut Parts, body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        // Whom a page trusts is not the server's to say for this origin.
        let headers = std::mem::take(&mut head.headers);
        let kept = headers.iter().filter(|(name, _)| !is_cors(name.as_str()));
        head.headers = kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(location) = text(&head.headers, header::LOCATION) {
            if let Some(Ok(value)) = self.through(location).map(HeaderValue::try_from) {
                head.headers.insert(header::LOCATION, value);
            }
            return Body::wrap(body);
        }
        let kind = text(&head.headers, header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let packed = text(&head.headers, header::CONTENT_ENCODING).unwrap_or_default();
        let (true, Some(pages)) = (kind == "text/html", Pages::of(packed, self.clone())) else {
            return Body::wrap(body);
        };
        head.headers.remove(header::CONTENT_LENGTH);
        let frames = body.into_data_stream();
        let pages = stream::unfold((frames, Some(pages)), async |(mut frames, pages)| {
            let mut pages = pages?;
            let (told, left) = match frames.next().await {
                Some(Ok(bytes)) => (pages.push(&bytes), Some(pages)),
                Some(Err(error)) => (Err(error.into()), None),
                None => (pages.finish(), None),
            };
            Some((told, (frames, left)))
        });
        Body::stream(pages)
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_cors(name: &str) -> bool {
    matches!(
        name,
        "access-control-allow-credentials"
            | "access-control-allow-headers"
            | "access-control-allow-methods"
            | "access-control-allow-origin"
    )
}

/// The scheme and host of a link, if it names them, and the rest.
fn split(link: &str) -> (Option<&str>, &str) {
    let begins = match link.find("//") {
        Some(0) => 0,
        Some(at) if link[..at].ends_with(':') && !link[..at].contains(['/', '?', '#']) => at,
        _ => return (None, link),
    };
    let host = begins + 2;
    let end = link[host..].find(['/', '?', '#']);
    let end = end.map_or(link.len(), |at| host + at);
    (Some(&link[..end]), &link[end..])
}

/// A path without steps that lead nowhere.
fn clean(path: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    let mut clean: String = steps.iter().flat_map(|step| ["/", step]).collect();
    if path.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// HTML on its way, unpacked and packed again where it was.
struct Pages {
    rewriter: Rewriter,
    packing: Packing,
}

enum Packing {
    None,
    Gzip(GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>),
}

impl Pages {
    /// `None`: nobody here can read that.
    fn of(encoding: &str, links: Links) -> Option<Self> {
        let packing = match encoding {
            "" => Packing::None,
            "gzip" => Packing::Gzip(
                GzDecoder::new(Vec::new()),
                GzEncoder::new(Vec::new(), Compression::default()),
            ),
            "deflate" => Packing::Deflate(
                DeflateDecoder::new(Vec::new()),
                DeflateEncoder::new(Vec::new(), Compression::best()),
            ),
            _ => return None,
        };
        Some(Self {
            rewriter: Rewriter::new(links),
            packing,
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Bytes, BoxError> {
        let mut out = Vec::new();
        for piece in bytes.chunks(PIECE) {
            match &mut self.packing {
                Packing::None => self.rewriter.push(piece, &mut out),
                Packing::Gzip(from, to) => {
                    from.write_all(piece)?;
                    let page = std::mem::take(from.get_mut());
                    to.write_all(&rewritten(&mut self.rewriter, &page))?;
                    out.append(to.get_mut());
                }
                Packing::Deflate(from, to) => {
                    from.write_all(piece)?;
                    from.flush()?;
                    let page = std::mem::take(from.get_mut());
                    to.write_all(&rewritten(&mut self.rewriter, &page))?;
                    out.append(to.get_mut());
                }
            }
        }
        Ok(out.into())
    }

    fn finish(self) -> Result<Bytes, BoxError> {
        let Self {
            mut rewriter,
            packing,
        } = self;
        let last = |rewriter: &mut Rewriter, page: &[u8]| {
            let mut out = rewritten(rewriter, page);
            rewriter.finish(&mut out);
            out
        };
        let out = match packing {
            Packing::None => last(&mut rewriter, &[]),
            Packing::Gzip(from, mut to) => {
                to.write_all(&last(&mut rewriter, &from.finish()?))?;
                to.finish()?
            }
            Packing::Deflate(from, mut to) => {
                to.write_all(&last(&mut rewriter, &from.finish()?))?;
                to.finish()?
            }
        };
        Ok(out.into())
    }
}

fn rewritten(rewriter: &mut Rewriter, page: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len());
    rewriter.push(page, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{Links, Pages};

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            target: "10.0.0.7:80".to_owned(),
            host: Some("localhost:8001".to_owned()),
        }
    }

    #[test]
    fn links_of_the_server_lead_through_the_proxy() {
        let through = |link| links().through(link);
        let own = |rest: &str| Some(format!("/api/v1/namespaces/n/pods/p/proxy{rest}"));
        assert_eq!(through("/a/b?c=/d"), own("/a/b?c=/d"));
        assert_eq!(through("/a/../b//c/"), own("/b/c/"));
        assert_eq!(through("http://10.0.0.7:80/a#b"), own("/a#b"));
        assert_eq!(through("//10.0.0.7:80/a"), own("/a"));
        let there = "http://localhost:8001/api/v1/namespaces/n/pods/p/proxy/a";
        assert_eq!(through("http://localhost:8001/a").as_deref(), Some(there));
        assert_eq!(through(there).as_deref(), Some(there));
        for left in ["a/b", "", "#x", "http://elsewhere/a", "mailto:a@b//c"] {
            assert_eq!(through(left), None, "{left}");
        }
    }

    #[test]
    fn packed_pages_are_packed_again() {
        let page = b"<p><a href='/x'>x</a>";
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, page).expect("packed");
        let packed = packed.finish().expect("packed");
        let mut pages = Pages::of("gzip", links()).expect("known");
        let mut out = Vec::new();
        for byte in packed.chunks(3) {
            out.extend(pages.push(byte).expect("unpacked"));
        }
        out.extend(pages.finish().expect("whole"));
        let mut text = String::new();
        let mut reader = flate2::read::GzDecoder::new(&out[..]);
        reader.read_to_string(&mut text).expect("packed again");
        assert_eq!(
            text,
            "<p><a href='/api/v1/namespaces/n/pods/p/proxy/x'>x</a>"
        );
        assert!(Pages::of("br", links()).is_none());
    }
}
