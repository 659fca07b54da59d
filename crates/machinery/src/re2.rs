//! Regular expressions as Go has them (RE2), compiled by the `regex` crate.
//!
//! Both are linear in the text. They differ in a few spellings: in Go `\d`, `\w`, `\s` and `\b` are of ASCII, a class has
//! neither classes within it nor operators, a brace that counts nothing is a brace, and `\Q...\E` quotes.
//! Reference: `https://github.com/google/re2/wiki/Syntax`.

mod words;

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

/// The most that a compiled expression may take: one that is larger is refused.
const MAX_BYTES: usize = 1 << 20;
const MAX_NESTING: u32 = 64;

/// Why an expression is none, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadExpression(String);

/// Compiles an expression within bounds.
///
/// # Errors
/// It is no regular expression, or a giant.
pub fn compile(text: &str) -> Result<Regex, BadExpression> {
    if let Some(mistake) = words::of(text) {
        return Err(BadExpression(mistake));
    }
    let built = RegexBuilder::new(&translated(text))
        .size_limit(MAX_BYTES)
        .dfa_size_limit(MAX_BYTES)
        .nest_limit(MAX_NESTING)
        .build();
    built.map_err(|error| {
        BadExpression(match (error, unicode_class(text)) {
            // Which classes there are only the compiler knows.
            (regex::Error::Syntax(_), Some(class)) => {
                words::told("invalid character class range", class)
            }
            _ => words::told("expression too large", text),
        })
    })
}

/// The first class of Unicode's that an expression names.
fn unicode_class(text: &str) -> Option<&str> {
    let start = text.find("\\p").or_else(|| text.find("\\P"))?;
    let rest = &text[start..];
    let end = match rest[2..].strip_prefix('{') {
        Some(_) => rest.find('}')? + 1,
        None => 2 + rest[2..].chars().next()?.len_utf8(),
    };
    Some(&rest[..end])
}

/// The same expression in the other spelling. What is wrong stays wrong.
fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => escape(rest, false, &mut out),
            '[' => class(rest, &mut out),
            '{' if !counts(rest) => {
                out.push_str("\\{");
                &rest[1..]
            }
            _ => {
                out.push(c);
                &rest[c.len_utf8()..]
            }
        };
    }
    out
}

/// Whether a brace begins `{n}`, `{n,}` or `{n,m}`.
fn counts(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// One escape; gives what follows it.
fn escape<'t>(text: &'t str, in_class: bool, out: &mut String) -> &'t str {
    let after = &text[1..];
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[c.len_utf8()..];
    match c {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        // These would be the edges of words.
        '<' | '>' => out.push(c),
        'Q' if !in_class => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        '0'..='7' => return octal(after, out),
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    rest
}

/// A character by its number: `\0`, or two or three octal digits.
fn octal<'t>(digits: &'t str, out: &mut String) -> &'t str {
    let count = digits
        .bytes()
        .take(3)
        .take_while(|b| (b'0'..=b'7').contains(b));
    let count = count.count();
    match u32::from_str_radix(&digits[..count], 8) {
        Ok(number) if count > 1 || number == 0 => {
            let _ = write!(out, "\\x{{{number:x}}}");
            &digits[count..]
        }
        // A reference to a group, which neither has.
        _ => {
            out.push('\\');
            digits
        }
    }
}

/// One class, from its bracket to the other; gives what follows it.
fn class<'t>(text: &'t str, out: &mut String) -> &'t str {
    out.push('[');
    let mut rest = &text[1..];
    for first in ["^", "]"] {
        if let Some(after) = rest.strip_prefix(first) {
            out.push_str(if first == "]" { "\\]" } else { first });
            rest = after;
        }
    }
    // Whether what stands before can begin no range.
    let mut closed = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            ']' => {
                out.push(']');
                return after;
            }
            '\\' => {
                let before = out.len();
                rest = escape(rest, true, out);
                closed = out[before..].starts_with('[');
                continue;
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..end]);
                (rest, closed) = (&rest[end..], true);
                continue;
            }
            '-' if closed || after.starts_with(']') => out.push_str("\\-"),
            '-' => {
                // The range's end; what looks like an operator there is a character.
                out.push('-');
                closed = true;
                rest = after;
                rest = range_end(rest, out);
                continue;
            }
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        closed = false;
        rest = after;
    }
    rest
}

/// The character that ends a range; gives what follows it.
fn range_end<'t>(text: &'t str, out: &mut String) -> &'t str {
    match text.chars().next() {
        Some('\\') => escape(text, true, out),
        Some(c) if c != ']' => {
            if matches!(c, '[' | '&' | '~' | '-') {
                out.push('\\');
            }
            out.push(c);
            &text[c.len_utf8()..]
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        let compiled = compile(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        compiled.is_match(text)
    }

    #[test]
    fn a_bracket_or_an_operator_in_a_class_is_a_character() {
        let token = r#"^[^()<>@,;:\\"\/[\]?={} \t\x7f]+$"#;
        assert!(matches(token, "name"));
        for text in ["a[b", "a]b", "a/b", "a\tb"] {
            assert!(!matches(token, text), "{text}");
        }
        for text in ["&", "~", "a", "["] {
            assert!(matches("^[a&&~~[]$", text), "{text}");
        }
        assert!(matches("^[+--]$", ",") && !matches("^[+--]$", "."));
        assert!(matches("^[[:alpha:]-]+$", "a-b") && !matches("^[[:alpha:]-]+$", "1"));
        assert!(matches(r"^[\w-.]+$", "a-b.c") && !matches(r"^[\w-.]+$", "a,b"));
        assert!(matches("^[]a]+$", "]a") && matches("^[^]a]+$", "b"));
        assert!(matches("^[a-z-9]+$", "a-9"));
    }

    #[test]
    fn shorthands_are_of_ascii() {
        assert!(matches(r"^\d\w\s$", "1a ") && !matches(r"^\d$", "٣"));
        assert!(!matches(r"^\w$", "é") && matches(r"^\W$", "é"));
        assert!(matches(r"\bfoo\b", "éfooé"));
    }

    #[test]
    fn braces_quotes_and_numbers() {
        assert!(matches("^a{2,3}$", "aa") && matches("^a{,3}$", "a{,3}"));
        assert!(matches("^{{x}}$", "{{x}}"));
        assert!(matches(r"^\Qa.b\E+$", "a.bb") && !matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\<\>\0\101$", "<>\0A"));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for wrong in ["(", "[", "a**b(", r"\1", "[z-a]", "x{1001}{1001}{1001}"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_told_in_gos_words() {
        let cases = [
            ("[", "missing closing ]: `[`"),
            ("[a", "missing closing ]: `[a`"),
            ("(", "missing closing ): `(`"),
            ("(?:a", "missing closing ): `(?:a`"),
            ("a)", "unexpected ): `a)`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a+?+", "invalid nested repetition operator: `+?+`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("\\p{Foo}", "invalid character class range: `\\p{Foo}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?P<n!>a)", "invalid named capture: `(?P<n!>`"),
            ("\\", "trailing backslash at end of expression: ``"),
            ("\\q", "invalid escape sequence: `\\q`"),
            ("\\xZZ", "invalid escape sequence: `\\xZZ`"),
            ("[a-\\d]", "invalid escape sequence: `\\d`"),
        ];
        for (text, wanted) in cases {
            let error = compile(text).expect_err(text).to_string();
            assert_eq!(error, format!("error parsing regexp: {wanted}"), "{text}");
        }
        for text in [
            "(|a)*", "x{,5}", "a{", "[\\d-z]", "^*", "[]a]", "[^]a]", "(?i)a",
        ] {
            assert!(compile(text).is_ok(), "{text}");
        }
    }
}
