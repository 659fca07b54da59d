//! What is wrong with a regular expression, in the words of Go's parser.
//!
//! A walk over the expression that keeps only what mistakes depend on. Behaviour: `regexp/syntax/parse.go`.

/// Counts of repetitions beyond this are refused.
const MOST: u32 = 1000;

/// A mistake: its kind, and the part of the expression that shows it.
type Mistake<'t> = (&'static str, &'t str);

/// The first mistake of an expression, told.
pub(super) fn of(text: &str) -> Option<String> {
    let (kind, part) = Walk::new(text).run().err()?;
    Some(told(kind, part))
}

/// A mistake as Go writes it.
pub(super) fn told(kind: &str, part: &str) -> String {
    format!("error parsing regexp: {kind}: `{part}`")
}

struct Walk<'t> {
    text: &'t str,
    rest: &'t str,
    /// Groups that are open.
    open: usize,
    /// There is something that could be repeated.
    has_argument: bool,
    /// From the repetition that stands right before.
    repeated: Option<&'t str>,
}

/// `text` up to where `after` begins, which is its end.
fn until<'t>(text: &'t str, after: &str) -> &'t str {
    &text[..text.len() - after.len()]
}

impl<'t> Walk<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            rest: text,
            open: 0,
            has_argument: false,
            repeated: None,
        }
    }

    fn run(mut self) -> Result<(), Mistake<'t>> {
        while let Some(c) = self.rest.chars().next() {
            let before = self.repeated.take();
            let after = &self.rest[c.len_utf8()..];
            match c {
                '(' => self.group()?,
                ')' if self.open == 0 => return Err(("unexpected )", self.text)),
                ')' => {
                    self.open -= 1;
                    self.has_argument = true;
                    self.rest = after;
                }
                '|' => {
                    self.has_argument = false;
                    self.rest = after;
                }
                '[' => {
                    self.rest = class(self.rest)?;
                    self.has_argument = true;
                }
                '*' | '+' | '?' => self.repeat(after, before)?,
                '{' => match count(self.rest) {
                    Some((least, most, after)) => {
                        let wrong = least > MOST || most.is_some_and(|m| m > MOST || m < least);
                        if wrong {
                            return Err(("invalid repeat count", until(self.rest, after)));
                        }
                        self.repeat(after, before)?;
                    }
                    None => self.item(after),
                },
                '\\' => self.backslash()?,
                _ => self.item(after),
            }
        }
        match self.open {
            0 => Ok(()),
            _ => Err(("missing closing )", self.text)),
        }
    }

    fn item(&mut self, after: &'t str) {
        self.has_argument = true;
        self.rest = after;
    }

    fn repeat(&mut self, after: &'t str, before: Option<&'t str>) -> Result<(), Mistake<'t>> {
        let here = self.rest;
        let after = after.strip_prefix('?').unwrap_or(after);
        if let Some(before) = before {
            let part = until(before, after);
            return Err(("invalid nested repetition operator", part));
        }
        if !self.has_argument {
            let part = until(here, after);
            return Err(("missing argument to repetition operator", part));
        }
        self.repeated = Some(here);
        self.rest = after;
        Ok(())
    }

    /// A group, or flags.
    fn group(&mut self) -> Result<(), Mistake<'t>> {
        let here = self.rest;
        let Some(inside) = here.strip_prefix("(?") else {
            self.open += 1;
            self.has_argument = false;
            self.rest = &here[1..];
            return Ok(());
        };
        let name = inside.strip_prefix("P<").or(inside.strip_prefix('<'));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let (name, after) = name
                .split_once('>')
                .ok_or(("invalid named capture", here))?;
            let fits = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(fits) {
                return Err(("invalid named capture", until(here, after)));
            }
            self.open += 1;
            self.has_argument = false;
            self.rest = after;
            return Ok(());
        }
        let (mut negative, mut seen) = (false, false);
        let mut rest = inside;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !negative => (negative, seen) = (true, false),
                ':' | ')' if !negative || seen => {
                    if c == ':' {
                        self.open += 1;
                        self.has_argument = false;
                    }
                    self.rest = rest;
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(("invalid or unsupported Perl syntax", until(here, rest)))
    }

    fn backslash(&mut self) -> Result<(), Mistake<'t>> {
        let here = self.rest;
        self.has_argument = true;
        match here[1..].chars().next() {
            Some('A' | 'b' | 'B' | 'z' | 'd' | 'D' | 's' | 'S' | 'w' | 'W') => {
                self.rest = &here[2..];
            }
            Some('C') => return Err(("invalid escape sequence", &here[..2])),
            Some('Q') => {
                let quoted = here[2..].split_once("\\E");
                self.rest = quoted.map_or("", |(_, after)| after);
            }
            Some('p' | 'P') => self.rest = unicode(here)?,
            _ => self.rest = escape(here)?,
        }
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}`, and what follows it; a number that is too large is larger than any that is allowed.
fn count(text: &str) -> Option<(u32, Option<u32>, &str)> {
    let (inner, after) = text[1..].split_once('}')?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let leads = digits.len() > 1 && digits.starts_with('0');
        (is_number && !leads).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    match inner.split_once(',') {
        None => number(inner).map(|n| (n, Some(n), after)),
        Some((least, "")) => number(least).map(|n| (n, None, after)),
        Some((least, most)) => Some((number(least)?, Some(number(most)?), after)),
    }
}

/// A class of Unicode's; which of them there are is not known here.
fn unicode(text: &str) -> Result<&str, Mistake<'_>> {
    const RANGE: &str = "invalid character class range";
    match text[2..].chars().next() {
        Some('{') => match text.find('}') {
            Some(end) => Ok(&text[end + 1..]),
            None => Err((RANGE, text)),
        },
        Some(c) => Ok(&text[2 + c.len_utf8()..]),
        None => Err(("invalid escape sequence", text)),
    }
}

/// One character that is written with a backslash.
fn escape(text: &str) -> Result<&str, Mistake<'_>> {
    let bad = |after: &str| Err(("invalid escape sequence", until(text, after)));
    let mut rest = text[1..].chars();
    let Some(c) = rest.next() else {
        return Err(("trailing backslash at end of expression", ""));
    };
    let is_octal = |c: Option<char>| c.is_some_and(|c| ('0'..='7').contains(&c));
    match c {
        '0'..='7' => {
            if c != '0' && !is_octal(rest.as_str().chars().next()) {
                return bad(rest.as_str());
            }
            for _ in 0..2 {
                if is_octal(rest.as_str().chars().next()) {
                    rest.next();
                }
            }
            Ok(rest.as_str())
        }
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => Ok(rest.as_str()),
        'x' => {
            let Some(first) = rest.next() else {
                return bad("");
            };
            if first == '{' {
                let mut digits = 0;
                loop {
                    match rest.next() {
                        Some('}') if digits > 0 => return Ok(rest.as_str()),
                        Some(c) if c.is_ascii_hexdigit() => digits += 1,
                        _ => return bad(rest.as_str()),
                    }
                }
            }
            let second = rest.next();
            let are_digits =
                first.is_ascii_hexdigit() && second.is_some_and(|c| c.is_ascii_hexdigit());
            match are_digits {
                true => Ok(rest.as_str()),
                false => bad(rest.as_str()),
            }
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(rest.as_str()),
        _ => bad(rest.as_str()),
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A class, from its bracket to the other; gives what follows it.
fn class(text: &str) -> Result<&str, Mistake<'_>> {
    const RANGE: &str = "invalid character class range";
    let mut rest = &text[1..];
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut is_first = true;
    while is_first || !rest.starts_with(']') {
        is_first = false;
        if let Some(named) = rest.strip_prefix("[:")
            && let Some((name, after)) = named.split_once(":]")
        {
            let known = POSIX.contains(&name.strip_prefix('^').unwrap_or(name));
            if !known {
                return Err((RANGE, until(rest, after)));
            }
            rest = after;
            continue;
        }
        if rest.starts_with("\\p") || rest.starts_with("\\P") {
            rest = unicode(rest)?;
            continue;
        }
        let perl = ["\\d", "\\D", "\\s", "\\S", "\\w", "\\W"];
        if perl.iter().any(|escape| rest.starts_with(escape)) {
            rest = &rest[2..];
            continue;
        }
        let range = rest;
        let (low, after) = character(rest, text)?;
        rest = after;
        if rest.len() >= 2 && rest.starts_with('-') && !rest[1..].starts_with(']') {
            let (high, after) = character(&rest[1..], text)?;
            rest = after;
            if high.zip(low).is_some_and(|(high, low)| high < low) {
                return Err((RANGE, until(range, after)));
            }
        }
    }
    Ok(&rest[1..])
}

/// One character of a class, where it can be told, and what follows it.
fn character<'t>(text: &'t str, whole: &'t str) -> Result<(Option<char>, &'t str), Mistake<'t>> {
    let Some(c) = text.chars().next() else {
        return Err(("missing closing ]", whole));
    };
    match c {
        '\\' => {
            let after = escape(text)?;
            let shown = until(text, after);
            let plain = shown.len() == 2 && !shown.ends_with(|c: char| c.is_ascii_alphanumeric());
            Ok((shown.chars().nth(1).filter(|_| plain), after))
        }
        c => Ok((Some(c), &text[c.len_utf8()..])),
    }
}
