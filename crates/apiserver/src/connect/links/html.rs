//! HTML as far as its links go: where tags begin and end, and the values of their attributes.
//!
//! What comes in pieces is held back until a tag is whole; a tag of no end passes as it is.

use super::Links;

/// The attributes that hold links, by tag.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Tags between which nothing is a tag but their own end.
const RAW: &[&str] = &[
    "iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp",
];

/// No tag is longer.
const LONGEST_TAG: usize = 64 << 10;

/// Changes the links of a page that comes in pieces.
pub(super) struct Rewriter {
    links: Links,
    /// What has come and is not told yet.
    held: Vec<u8>,
    /// What ends the part in which nothing is a tag.
    raw_until: Option<Vec<u8>>,
}

/// What a piece of a page begins with.
enum Part {
    /// So many bytes that are no tag.
    Text(usize),
    /// A tag of so many bytes.
    Tag(usize),
    /// Too little of anything.
    More,
}

impl Rewriter {
    pub(super) fn new(links: Links) -> Self {
        Self {
            links,
            held: Vec::new(),
            raw_until: None,
        }
    }

    /// Takes the next piece; what is certain goes out.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        while !rest.is_empty() {
            let length = match self.part(rest) {
                Part::Text(length) => {
                    out.extend_from_slice(&rest[..length]);
                    length
                }
                Part::Tag(length) => {
                    self.tag(&rest[..length], out);
                    length
                }
                Part::More => break,
            };
            rest = &rest[length..];
        }
        self.held = rest.to_vec();
    }

    /// There is no more.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    fn part(&mut self, rest: &[u8]) -> Part {
        if let Some(end) = &self.raw_until {
            let found = find(rest, end);
            // The beginning of the end may be all that is there.
            let certain = found.unwrap_or((rest.len() + 1).saturating_sub(end.len()));
            if found.is_some() {
                self.raw_until = None;
            }
            return match (certain, found) {
                (0, None) => Part::More,
                // The end of the part is a tag of its own.
                (0, Some(_)) => Part::Text(1),
                (certain, _) => Part::Text(certain),
            };
        }
        if rest[0] != b'<' {
            let length = rest.iter().position(|byte| *byte == b'<');
            return Part::Text(length.unwrap_or(rest.len()));
        }
        if rest.starts_with(b"<!--") {
            return match find(&rest[4..], b"-->") {
                Some(at) => Part::Text(at + 7),
                None => too_long(rest),
            };
        }
        match rest.get(1) {
            None => Part::More,
            Some(b'!') if rest.len() < 4 && b"<!--".starts_with(rest) => Part::More,
            Some(first) if first.is_ascii_alphabetic() => match end_of_tag(rest) {
                Some(length) => Part::Tag(length),
                None => too_long(rest),
            },
            Some(_) => Part::Text(1),
        }
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let end = tag[1..].iter().position(|byte| ends_name(*byte));
        let name = &tag[1..end.map_or(tag.len(), |at| at + 1)];
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if RAW.contains(&name.as_str()) {
            self.raw_until = Some(format!("</{name}").into_bytes());
        }
        let of_tag = ATTRIBUTES.iter().find(|(tag, _)| *tag == name);
        let wanted = of_tag.map_or(&[][..], |(_, attributes)| attributes);
        let mut told = 0;
        for (attribute, from, to) in attributes(tag, name.len() + 1) {
            let Ok(value) = std::str::from_utf8(&tag[from..to]) else {
                continue;
            };
            let is_link = wanted
                .iter()
                .any(|wanted| attribute.eq_ignore_ascii_case(wanted.as_bytes()));
            let Some(link) = is_link.then(|| self.links.through(value)).flatten() else {
                continue;
            };
            out.extend_from_slice(&tag[told..from]);
            out.extend_from_slice(link.as_bytes());
            told = to;
        }
        out.extend_from_slice(&tag[told..]);
    }
}

/// What has no end for that long is taken for text.
fn too_long(rest: &[u8]) -> Part {
    match rest.len() > LONGEST_TAG {
        true => Part::Text(1),
        false => Part::More,
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window.eq_ignore_ascii_case(wanted))
}

fn ends_name(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')
}

/// The length of the tag that begins here; none when its end is not there yet.
fn end_of_tag(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut value = false;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at + 1),
            // A quote is one only where a value begins.
            (None, b'"' | b'\'') if value => quote = Some(byte),
            (None, b'=') => value = true,
            (None, byte) if byte.is_ascii_whitespace() => {}
            (None, _) => value = false,
        }
    }
    None
}

/// The attributes of a tag that have values: the name, and where the value begins and ends.
fn attributes(tag: &[u8], from: usize) -> Vec<(&[u8], usize, usize)> {
    let end = tag.len() - 1;
    let next = |from: usize, stops: &dyn Fn(u8) -> bool| {
        let found = tag[from.min(end)..end].iter().position(|byte| stops(*byte));
        found.map_or(end, |at| from + at)
    };
    let mut found = Vec::new();
    let mut at = from;
    while at < end {
        let name = next(at, &|byte| !byte.is_ascii_whitespace() && byte != b'/');
        let name_end = next(name, &|byte| {
            byte.is_ascii_whitespace() || matches!(byte, b'/' | b'=')
        });
        let sign = next(name_end, &|byte| !byte.is_ascii_whitespace());
        if sign >= end || tag[sign] != b'=' {
            at = name_end.max(at + 1);
            continue;
        }
        let value = next(sign + 1, &|byte| !byte.is_ascii_whitespace());
        let quote = tag.get(value).copied().filter(|_| value < end);
        let (from, to) = match quote {
            Some(quote @ (b'"' | b'\'')) => (value + 1, next(value + 1, &|byte| byte == quote)),
            _ => (value, next(value, &|byte| byte.is_ascii_whitespace())),
        };
        found.push((&tag[name..name_end], from, to.max(from)));
        at = to.max(from) + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Links, Rewriter};

    /// The page, whole and in pieces of every length.
    fn check(page: &str, wanted: &str) {
        for length in 1..=page.len() {
            let mut rewriter = Rewriter::new(Links {
                prefix: "/P".to_owned(),
                target: "10.0.0.7:80".to_owned(),
                host: None,
            });
            let mut out = Vec::new();
            for piece in page.as_bytes().chunks(length) {
                rewriter.push(piece, &mut out);
            }
            rewriter.finish(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), wanted, "pieces of {length}");
        }
    }

    #[test]
    fn links_change_and_nothing_else() {
        check(
            "<!DOCTYPE html><!-- <a href=/c> --><A class=x HREF = \"/a?b&amp;c\" >/a</A><img alt='/' src='/i.png'/>",
            "<!DOCTYPE html><!-- <a href=/c> --><A class=x HREF = \"/P/a?b&amp;c\" >/a</A><img alt='/' src='/P/i.png'/>",
        );
        check("<a href=/x>1 < 2", "<a href=/P/x>1 < 2");
        check(
            "<form method=post action=/a><p title='>'>",
            "<form method=post action=/P/a><p title='>'>",
        );
        check("<a href=\"b\"><a name=/x>", "<a href=\"b\"><a name=/x>");
    }

    #[test]
    fn what_is_no_tag_stays() {
        check(
            "<script src=/s.js>if (a<b) '<a href=/x>'</script><a href=/y>",
            "<script src=/P/s.js>if (a<b) '<a href=/x>'</script><a href=/P/y>",
        );
        check("<a href=", "<a href=");
        check("<", "<");
        check("a <!- <a href=/x>", "a <!- <a href=/P/x>");
        check("<a href=>", "<a href=>");
        check("<a href=\"/x>", "<a href=\"/x>");
    }
}
