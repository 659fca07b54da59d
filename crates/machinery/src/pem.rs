//! PEM as Go reads it (`encoding/pem`): blocks among any other text, headers known and skipped, what is malformed passed over.
//!
//! Reading takes time in proportion to the input, whatever is in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// How many letters of Base64 stand in a line.
const WIDTH: usize = 64;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it says it is: `CERTIFICATE`.
    pub label: String,
    /// Lines such as `Proc-Type: 4,ENCRYPTED` stand before the content.
    pub has_headers: bool,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// The blocks of a text, in their order.
pub fn blocks(text: &[u8]) -> Blocks<'_> {
    Blocks {
        text,
        at: 0,
        end: None,
    }
}

/// See [`blocks`].
pub struct Blocks<'a> {
    text: &'a [u8],
    /// Where to read on; always the beginning of a line.
    at: usize,
    /// The beginning of the next line that ends a block, as far as it is known.
    end: Option<usize>,
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        while let Some(begin) = line_with(self.text, self.at, BEGIN) {
            let (first, next) = line(self.text, begin + BEGIN.len());
            self.at = next;
            let Some(label) = first.strip_suffix(DASHES) else {
                continue;
            };
            let mut has_headers = false;
            loop {
                let (header, next) = line(self.text, self.at);
                if !header.contains(&b':') || self.at >= self.text.len() {
                    break;
                }
                has_headers = true;
                self.at = next;
            }
            let end = self.next_end()?;
            let (last, next) = line(self.text, end + END.len());
            let fits = last.strip_suffix(DASHES) == Some(label);
            if let Some(contents) = fits.then(|| decode(&self.text[self.at..end])).flatten() {
                self.at = next;
                return Some(Block {
                    label: String::from_utf8_lossy(label).into_owned(),
                    has_headers,
                    contents,
                });
            }
        }
        None
    }
}

impl Blocks<'_> {
    /// Where the next end of a block is; looked for once.
    fn next_end(&mut self) -> Option<usize> {
        if self.end.is_none_or(|end| end < self.at) {
            self.end = line_with(self.text, self.at, END);
        }
        self.end
    }
}

/// The next line that begins with these letters; `from` is the beginning of a line.
fn line_with(text: &[u8], from: usize, start: &[u8]) -> Option<usize> {
    let mut at = from;
    while at < text.len() {
        if text[at..].starts_with(start) {
            return Some(at);
        }
        at += 1 + text[at..].iter().position(|b| *b == b'\n')?;
    }
    None
}

/// The rest of a line without blanks at its end, and where the next begins.
fn line(text: &[u8], from: usize) -> (&[u8], usize) {
    let rest = &text[from.min(text.len())..];
    let length = rest.iter().position(|b| *b == b'\n');
    let next = from + length.map_or(rest.len(), |l| l + 1);
    (rest[..length.unwrap_or(rest.len())].trim_ascii_end(), next)
}

/// Base64 with blanks and ends of lines in it.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    // Nothing is copied that cannot be read anyway.
    if !text.iter().all(|b| blank(b) || letter(b)) {
        return None;
    }
    let letters: Vec<u8> = text.iter().copied().filter(|b| !blank(b)).collect();
    STANDARD.decode(letters).ok()
}

/// A block of this content.
pub fn encode(label: &str, contents: &[u8]) -> String {
    let letters = STANDARD.encode(contents);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = letters.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(WIDTH));
        out.push_str(line);
        out.push('\n');
        rest = left;
    }
    out + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, bool, Vec<u8>)> {
        let all = blocks(text.as_bytes());
        all.map(|b| (b.label, b.has_headers, b.contents)).collect()
    }

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = "# roots\r\n-----BEGIN A-----\r\nAQ I=\r\n-----END A-----\r\nbetween\n\
            -----BEGIN B-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAw==\n-----END B-----";
        let expected = vec![
            ("A".to_owned(), false, vec![1, 2]),
            ("B".to_owned(), true, vec![3]),
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn malformed_blocks_are_passed_over() {
        let good = "-----BEGIN A-----\nAQ==\n-----END A-----\n";
        for bad in [
            "-----BEGIN A\n",
            "-----BEGIN B-----\n!!!\n-----END B-----\n",
            "-----BEGIN B-----\nAQ==\n-----END C-----\n",
            " -----BEGIN B-----\nAQ==\n",
            "-----BEGIN B-----\n",
        ] {
            let found = read(&format!("{bad}{good}"));
            assert_eq!(found, vec![("A".to_owned(), false, vec![1])], "{bad:?}");
        }
        assert_eq!(read("-----BEGIN A-----\n-----END A-----\n").len(), 1);
        assert!(read("-----BEGIN A-----").is_empty());
    }

    /// CVE-2025-61723: text that begins often and ends never is read once, not once for every beginning.
    #[test]
    fn hostile_text_takes_no_more_time_than_other_text() {
        let begins = "-----BEGIN A-----\n".repeat(60_000);
        assert!(read(&begins).is_empty());
        assert!(read(&format!("{begins}-----END B-----\n")).is_empty());
        let headers = "-----BEGIN A-----\nx: y\n".repeat(40_000);
        assert!(read(&format!("{headers}-----END B-----\n")).is_empty());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(contents in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = encode("CERTIFICATE", &contents);
            prop_assert!(text.lines().all(|line| line.len() <= WIDTH));
            prop_assert_eq!(read(&text), vec![("CERTIFICATE".to_owned(), false, contents)]);
        }

        #[test]
        fn nothing_makes_it_panic(text in "(-----BEGIN |-----END |A-----|:|\n|AQ==| ){0,40}") {
            read(&text);
        }
    }
}
