//! From text to words.

use super::tree::{Issue, Literal};

/// A word of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Ident(String),
    Literal(Literal),
    Op(&'static str),
    End,
}

const OPERATORS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}",
];

/// Words, and where they begin.
pub(super) type Tokens = Vec<(usize, Token)>;

/// The words of an expression; and what belongs to none, which is passed over.
pub(super) fn lex(text: &str) -> Result<(Tokens, Vec<Issue>), Issue> {
    let mut tokens = Vec::new();
    let mut unknown = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some((literal, length)) = string(rest).map_err(|why| Issue::new(at, why))? {
            tokens.push((at, Token::Literal(literal)));
            at += length;
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let (literal, length) = number(rest).map_err(|why| Issue::new(at, why))?;
            tokens.push((at, Token::Literal(literal)));
            at += length;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let word = &rest[..end.unwrap_or(rest.len())];
            tokens.push((at, keyword(word)));
            at += word.len();
        } else {
            let operator = OPERATORS.iter().find(|o| rest.starts_with(**o));
            let Some(operator) = operator else {
                // Half of an operator is told with the character that is not its other half.
                let half = matches!(first, '=' | '&' | '|');
                let other = rest.chars().nth(1).filter(|_| half);
                let length = first.len_utf8() + other.map_or(0, char::len_utf8);
                let shown = &rest[..length];
                let why = format!("Syntax error: token recognition error at: '{shown}'");
                unknown.push(Issue::new(at, why));
                at += length;
                continue;
            };
            tokens.push((at, Token::Op(operator)));
            at += operator.len();
        }
    }
    Ok((tokens, unknown))
}

fn keyword(word: &str) -> Token {
    match word {
        "true" => Token::Literal(Literal::Bool(true)),
        "false" => Token::Literal(Literal::Bool(false)),
        "null" => Token::Literal(Literal::Null),
        "in" => Token::Op("in"),
        word => Token::Ident(word.to_owned()),
    }
}

fn number(text: &str) -> Result<(Literal, usize), String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let length = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&digits[..length], 16);
        let value = value.map_err(|_| "invalid int literal".to_owned())?;
        if digits[length..].starts_with(['u', 'U']) {
            return Ok((Literal::Uint(value), length + 3));
        }
        let value = i64::try_from(value).map_err(|_| "invalid int literal".to_owned())?;
        return Ok((Literal::Int(value), length + 2));
    }
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    let mut double = false;
    if text[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        double = true;
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            double = true;
        }
    }
    let body = &text[..end];
    if double {
        let value = body
            .parse()
            .map_err(|_| "invalid double literal".to_owned())?;
        return Ok((Literal::Double(value), end));
    }
    if text[end..].starts_with(['u', 'U']) {
        let value = body
            .parse()
            .map_err(|_| "invalid uint literal".to_owned())?;
        return Ok((Literal::Uint(value), end + 1));
    }
    // The smallest integer is a negated literal that does not fit by itself.
    match body.parse::<u64>() {
        Ok(value) if value == i64::MIN.unsigned_abs() => Ok((Literal::Int(i64::MIN), end)),
        Ok(value) => match i64::try_from(value) {
            Ok(value) => Ok((Literal::Int(value), end)),
            Err(_) => Err("invalid int literal".to_owned()),
        },
        Err(_) => Err("invalid int literal".to_owned()),
    }
}

/// A quoted text, raw or not, of bytes or not; none when there is no quotation here.
fn string(text: &str) -> Result<Option<(Literal, usize)>, String> {
    let prefix = text
        .bytes()
        .take_while(|b| matches!(b, b'r' | b'R' | b'b' | b'B'))
        .count();
    let (flags, body) = text.split_at(prefix);
    if prefix > 2 || !body.starts_with(['"', '\'']) {
        return Ok(None);
    }
    let raw = flags.contains(['r', 'R']);
    let bytes = flags.contains(['b', 'B']);
    let quote = &body[..1];
    let triple = quote.repeat(3);
    let fence = if body.starts_with(&triple) {
        &*triple
    } else {
        quote
    };
    let mut out: Vec<u8> = Vec::new();
    let mut rest = &body[fence.len()..];
    loop {
        if let Some(after) = rest.strip_prefix(fence) {
            let length = text.len() - after.len();
            let literal = match bytes {
                true => Literal::Bytes(out.into()),
                false => Literal::String(
                    String::from_utf8(out).map_err(|_| "invalid string literal".to_owned())?,
                ),
            };
            return Ok(Some((literal, length)));
        }
        let Some(c) = rest.chars().next() else {
            return Err("Syntax error: token recognition error at: unterminated string".to_owned());
        };
        if c == '\n' && fence.len() == 1 {
            return Err("Syntax error: token recognition error at: unterminated string".to_owned());
        }
        if c == '\\' && !raw {
            rest = escape(&rest[1..], bytes, &mut out)?;
        } else {
            let mut buffer = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
}

fn escape<'a>(text: &'a str, bytes: bool, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let bad = || "unable to unescape string".to_owned();
    let c = text.chars().next().ok_or_else(bad)?;
    let simple = match c {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        '\'' => Some(b'\''),
        '"' => Some(b'"'),
        '`' => Some(b'`'),
        '?' => Some(b'?'),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(&text[1..]);
    }
    let (skip, length, radix) = match c {
        'x' | 'X' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => return Err(bad()),
    };
    let digits = text.get(skip..skip + length).ok_or_else(bad)?;
    let code = u32::from_str_radix(digits, radix).map_err(|_| bad())?;
    match u8::try_from(code) {
        Ok(byte) if bytes => out.push(byte),
        _ => {
            let c = char::from_u32(code).ok_or_else(bad)?;
            out.extend_from_slice(c.to_string().as_bytes());
        }
    }
    Ok(&text[skip + length..])
}
