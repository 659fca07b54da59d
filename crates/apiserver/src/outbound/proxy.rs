//! The way to a far end through a proxy: `proxy-url` in a kubeconfig. HTTP proxies pass connections on (`CONNECT`), or requests
//! where the far end speaks no TLS; SOCKS5 ones pass on any connection.
//!
//! Behaviour: Go's `net/http` and `golang.org/x/net/internal/socks`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of a proxy's answer is no longer.
const LONGEST_HEAD: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Http,
    Socks,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    kind: Kind,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// A name and a password.
    login: Option<(String, String)>,
}

impl Proxy {
    /// Reads its URL.
    ///
    /// # Errors
    /// It is of a sort that is not known here, or none.
    pub(crate) fn of_url(url: &str) -> Result<Self, String> {
        // The URL may hold a password, which no error shows.
        let bad = || "proxy-url is no URL of a proxy".to_owned();
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let (kind, port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("socks5" | "socks5h") => (Kind::Socks, 1080),
            Some(other) => {
                return Err(format!(
                    "proxy-url: proxies by {other:?} are not supported here, only http and socks5"
                ));
            }
            None => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| {
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
            (plain(name), plain(password))
        });
        let host = authority.host().trim_matches(['[', ']']);
        let too_long = |text: &String| text.len() > 255;
        if host.is_empty()
            || login
                .as_ref()
                .is_some_and(|(a, b)| too_long(a) || too_long(b))
        {
            return Err(bad());
        }
        Ok(Self {
            kind,
            host: host.into(),
            port: authority.port_u16().unwrap_or(port),
            login,
        })
    }

    /// Whether requests without TLS are sent to the proxy itself.
    pub(super) fn takes_requests(&self) -> bool {
        self.kind == Kind::Http
    }

    /// What goes with requests that are sent to the proxy itself.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let login = self.authorization().filter(|_| self.takes_requests())?;
        let mut value = HeaderValue::from_str(&login).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn authorization(&self) -> Option<String> {
        let (name, password) = self.login.as_ref()?;
        let both = STANDARD.encode(format!("{name}:{password}"));
        Some(format!("Basic {both}"))
    }

    /// Has a connection to the proxy become one to somebody else.
    pub(super) async fn pass_on(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        match self.kind {
            Kind::Http => self.connect(stream, host, port).await,
            Kind::Socks => self.socks(stream, host, port).await,
        }
    }

    async fn connect(&self, stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let login = self.authorization();
        let login = login.map(|login| format!("Proxy-Authorization: {login}\r\n"));
        let question = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n",
            login.unwrap_or_default()
        );
        stream.write_all(question.as_bytes()).await?;
        // Byte by byte: what comes after the head is the far end's.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == LONGEST_HEAD {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        let mut words = line.splitn(3, ' ');
        let (version, code) = (words.next().unwrap_or_default(), words.next());
        match code {
            Some("200") if version.starts_with("HTTP/1.") => Ok(()),
            _ => {
                let why = words.next().filter(|text| !text.is_empty());
                Err(io::Error::other(
                    why.unwrap_or("unknown status code").to_owned(),
                ))
            }
        }
    }

    async fn socks(&self, stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
        let wrong = |why: &str| io::Error::other(format!("socks connect: {why}"));
        let way = if self.login.is_some() { 2 } else { 0 };
        stream.write_all(&[5, 1, way]).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        if answer != [5, way] {
            return Err(wrong("no acceptable authentication methods"));
        }
        if let Some((name, password)) = &self.login {
            let mut login = vec![1];
            for text in [name, password] {
                // Both are bounded where the URL is read.
                login.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                login.extend(text.as_bytes());
            }
            stream.write_all(&login).await?;
            stream.read_exact(&mut answer).await?;
            if answer[1] != 0 {
                return Err(wrong("username/password authentication failed"));
            }
        }
        let mut question = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                question.push(1);
                question.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                question.push(4);
                question.extend(address.octets());
            }
            Err(_) => {
                let length = u8::try_from(host.len()).map_err(|_| wrong("FQDN too long"))?;
                question.extend([3, length]);
                question.extend(host.as_bytes());
            }
        }
        question.extend(port.to_be_bytes());
        stream.write_all(&question).await?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        if head[1] != 0 {
            return Err(wrong(
                SOCKS_ERRORS
                    .get(usize::from(head[1]))
                    .unwrap_or(&"unknown error"),
            ));
        }
        let rest = match head[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await?),
            _ => return Err(wrong("unknown address type")),
        };
        let mut bound = vec![0; rest + 2];
        stream.read_exact(&mut bound).await?;
        Ok(())
    }
}

const SOCKS_ERRORS: [&str; 9] = [
    "succeeded",
    "general SOCKS server failure",
    "connection not allowed by ruleset",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "TTL expired",
    "command not supported",
    "address type not supported",
];
