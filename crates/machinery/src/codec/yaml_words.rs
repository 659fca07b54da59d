//! Syntax errors of YAML in the words of Go's reader.
//!
//! The two readers notice the same mistakes at different moments: where ours knows less than Go's would say (where a
//! collection began, say), the place of the mistake stands for it. Behaviour: `parser.fail` of `goyaml.v2`.

use serde_saphyr::Error;

/// Who noticed: that decides how Go counts lines.
enum Noticed {
    /// While reading characters: lines count from 1.
    ByScanner(usize, &'static str),
    /// While putting them together: lines count from 0.
    ByParser(usize, &'static str),
    /// Afterwards, without a line.
    Later(String),
}

/// What Go would have said of this document.
pub(super) fn of(error: &Error, document: &[u8]) -> String {
    let text = error.without_snippet().to_string();
    let (line, column) = error
        .location()
        .map_or((0, 0), |at| (usize_of(at.line()), usize_of(at.column())));
    let line = line.saturating_sub(1);
    let last_line = document.split(|byte| *byte == b'\n').count()
        - usize::from(document.ends_with(b"\n") || document.is_empty());
    let is = |words: &str| text.contains(words);
    let noticed = match () {
        () if is("mapping values are not allowed") => {
            Noticed::ByScanner(line, "mapping values are not allowed in this context")
        }
        () if is("tabs disallowed") || is("cannot start any token") => {
            Noticed::ByScanner(line, "found character that cannot start any token")
        }
        () if is("unclosed quote") => Noticed::ByScanner(line, "found unexpected end of stream"),
        () if is("unclosed bracket") => {
            let problem = open_end(document, is("'['"));
            Noticed::ByParser(if line == 0 { last_line } else { line }, problem)
        }
        () if is("did not find expected key") => {
            Noticed::ByParser(line, "did not find expected key")
        }
        () if is("did not find expected node content") => {
            Noticed::ByParser(line, "did not find expected node content")
        }
        () if is("unknown anchor") => {
            let name = anchor_at(document, line, column);
            Noticed::Later(format!("unknown anchor '{name}' referenced"))
        }
        () if is("recursive references") => {
            let name = anchor_at(document, line, column);
            Noticed::Later(format!("anchor '{name}' value contains itself"))
        }
        () => return text,
    };
    match noticed {
        Noticed::ByScanner(0, problem) | Noticed::ByParser(0, problem) => problem.to_owned(),
        Noticed::ByScanner(line, problem) => format!("line {}: {problem}", line + 1),
        Noticed::ByParser(line, problem) => format!("line {line}: {problem}"),
        Noticed::Later(problem) => problem,
    }
}

fn usize_of(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(0)
}

/// What is missing at the end of a flow collection that is never closed.
fn open_end(document: &[u8], is_list: bool) -> &'static str {
    match document.trim_ascii_end().last() {
        Some(b'{' | b'[' | b',') => "did not find expected node content",
        _ if is_list => "did not find expected ',' or ']'",
        _ => "did not find expected ',' or '}'",
    }
}

/// The name of the anchor that is referred to here (both count from 0 and 1).
fn anchor_at(document: &[u8], line: usize, column: usize) -> String {
    let line = document.split(|byte| *byte == b'\n').nth(line);
    let rest = line.and_then(|line| line.get(column.saturating_sub(1)..));
    let rest = rest.and_then(|rest| rest.strip_prefix(b"*")).unwrap_or(b"");
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name: Vec<u8> = rest.iter().take_while(is_part).copied().collect();
    String::from_utf8_lossy(&name).into_owned()
}
