//! JSONPath as `kubectl` and the columns of custom resources write it: `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Paths are read once and bounded; evaluation visits each value at most once a step. Functions and templates around the path
//! (`{range}`) are not here.
//! Behaviour: `k8s.io/client-go/util/jsonpath`.

use serde_json::Value;

/// The longest path that is read.
const MAX_LENGTH: usize = 4096;
/// The most values that one step hands on.
const MAX_RESULTS: usize = 10_000;

/// A path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Wildcard,
    /// Everything at any depth.
    Descend,
    Union(Vec<Step>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    /// Relative to the element (`@`) or to the whole (`$`).
    Path(bool, JsonPath),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

impl JsonPath {
    /// Reads a path, with or without the leading `$`.
    ///
    /// # Errors
    /// It is no path.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        if text.len() > MAX_LENGTH {
            return Err(JsonPathError("the path is too long".to_owned()));
        }
        let mut parser = Parser {
            rest: text.strip_prefix('$').unwrap_or(text),
            depth: 0,
        };
        let path = parser.path()?;
        match parser.rest {
            "" => Ok(path),
            rest => Err(unexpected(rest)),
        }
    }

    /// All values that the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.walk(root, root)
    }

    fn walk<'a>(&self, from: &'a Value, root: &'a Value) -> Vec<&'a Value> {
        let mut now = vec![from];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in now {
                step.apply(value, root, &mut next);
                if next.len() > MAX_RESULTS {
                    next.truncate(MAX_RESULTS);
                    break;
                }
            }
            now = next;
        }
        now
    }
}

fn unexpected(rest: &str) -> JsonPathError {
    let first = rest.chars().next().unwrap_or(' ');
    JsonPathError(format!("unexpected character {first:?} in the path"))
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, root: &'a Value, out: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => out.extend(map.get(&**name)),
            (Self::Field(_), _) => {}
            (Self::Index(index), Value::Array(items)) => {
                out.extend(position(*index, items.len()).and_then(|i| items.get(i)));
            }
            (Self::Slice(from, to, step), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let clamp = |i: i64| (if i < 0 { i + length } else { i }).clamp(0, length);
                let (from, to) = (clamp(from.unwrap_or(0)), clamp(to.unwrap_or(length)));
                let (from, to) = (from.unsigned_abs() as usize, to.unsigned_abs() as usize);
                let every = usize::try_from(*step).unwrap_or(1).max(1);
                if from < to {
                    out.extend(items[from..to].iter().step_by(every));
                }
            }
            (Self::Wildcard, Value::Array(items)) => out.extend(items),
            (Self::Wildcard, Value::Object(map)) => out.extend(map.values()),
            (Self::Descend, _) => descend(value, out),
            (Self::Union(steps), _) => steps.iter().for_each(|s| s.apply(value, root, out)),
            (Self::Filter(left, rest), Value::Array(items)) => {
                out.extend(items.iter().filter(|i| holds(left, rest.as_ref(), i, root)));
            }
            _ => {}
        }
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() > MAX_RESULTS {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|v| descend(v, out)),
        Value::Object(map) => map.values().for_each(|v| descend(v, out)),
        _ => {}
    }
}

fn holds(left: &Operand, rest: Option<&(Comparison, Operand)>, item: &Value, root: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Path(from_root, path) => {
            let from = if *from_root { root } else { item };
            path.walk(from, root).first().map(|v| (*v).clone())
        }
    };
    let left = value(left);
    let Some((comparison, right)) = rest else {
        return left.is_some();
    };
    let (Some(left), Some(right)) = (left, value(right)) else {
        return false;
    };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else {
        return *comparison == Comparison::NotEqual && left != right
            || *comparison == Comparison::Equal && left == right;
    };
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn path(&mut self) -> Result<JsonPath, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if !self.rest.starts_with('[') {
                    steps.push(self.field()?);
                }
            } else if self.eat(".") {
                // A lone dot is the value itself; `.['a']` is `['a']`.
                if !self.rest.is_empty() && !self.rest.starts_with('[') {
                    steps.push(self.field()?);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(JsonPath(steps));
            }
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), JsonPathError> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(JsonPathError(format!("expected {token:?} in the path"))),
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// A name; a backslash takes the next character as it is.
    fn field(&mut self) -> Result<Step, JsonPathError> {
        if self.eat("*") {
            return Ok(Step::Wildcard);
        }
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ']' | '=' | '!' | '<' | '>' | ' ' | ')' | '|' | '&' | ',' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        if name.is_empty() {
            return Err(JsonPathError("a field has no name".to_owned()));
        }
        self.rest = &self.rest[end..];
        Ok(Step::Field(name.into()))
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        self.spaces();
        if self.eat("?(") {
            return self.filter();
        }
        let mut steps = Vec::new();
        loop {
            self.spaces();
            steps.push(self.element()?);
            self.spaces();
            if self.eat(",") {
                continue;
            }
            self.expect("]")?;
            return Ok(match steps.len() {
                1 => steps.remove(0),
                _ => Step::Union(steps),
            });
        }
    }

    fn element(&mut self) -> Result<Step, JsonPathError> {
        if self.eat("*") {
            return Ok(Step::Wildcard);
        }
        if self.rest.starts_with(['\'', '"']) {
            return Ok(Step::Field(self.quoted()?.into()));
        }
        let first = self.integer();
        if !self.eat(":") {
            return first.map(Step::Index).ok_or_else(|| unexpected(self.rest));
        }
        let to = self.integer();
        let step = match self.eat(":") {
            true => self.integer().unwrap_or(1),
            false => 1,
        };
        if step < 1 {
            return Err(JsonPathError(
                "the step of a slice must be positive".to_owned(),
            ));
        }
        Ok(Step::Slice(first, to, step))
    }

    fn integer(&mut self) -> Option<i64> {
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let end = self.rest.len() - digits.len() + length;
        let parsed = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        Some(parsed)
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let open = || JsonPathError("a quotation does not end".to_owned());
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next().ok_or_else(open)?;
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(open())
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        self.depth += 1;
        if self.depth > 8 {
            return Err(JsonPathError("filters are nested too deep".to_owned()));
        }
        let left = self.operand()?;
        self.spaces();
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let comparison = COMPARISONS.iter().find(|(token, _)| self.eat(token));
        let rest = match comparison {
            Some((_, comparison)) => Some((*comparison, self.operand()?)),
            None => None,
        };
        self.spaces();
        self.expect(")]")?;
        self.depth -= 1;
        Ok(Step::Filter(left, rest))
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        self.spaces();
        if self.eat("@") {
            return Ok(Operand::Path(false, self.path()?));
        }
        if self.eat("$") {
            return Ok(Operand::Path(true, self.path()?));
        }
        if self.rest.starts_with(['\'', '"']) {
            return Ok(Operand::Literal(self.quoted()?.into()));
        }
        let end = self.rest.find([' ', ')', '=', '!', '<', '>']);
        let word: &'a str = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = &self.rest[word.len()..];
        let literal = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word => serde_json::from_str(word)
                .ok()
                .filter(Value::is_number)
                .ok_or_else(|| JsonPathError(format!("{word:?} is no value")))?,
        };
        Ok(Operand::Literal(literal))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::JsonPath;

    fn found(path: &str) -> String {
        let object = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [1, 2, 3, 4]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Other", "status": "False", "n": 2},
            ]},
        });
        match JsonPath::parse(path) {
            Ok(path) => serde_json::to_string(&path.find(&object)).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn paths_lead_to_values() {
        let cases = [
            (".spec.replicas", "[3]"),
            ("$.spec.replicas", "[3]"),
            (".spec.nothing", "[]"),
            (r".spec.a\.b", r#"["dotted"]"#),
            (".spec['a.b']", r#"["dotted"]"#),
            (".spec.list[0]", "[1]"),
            (".spec.list[-1]", "[4]"),
            (".spec.list[1:3]", "[2,3]"),
            (".spec.list[::2]", "[1,3]"),
            (".spec.list[0,2]", "[1,3]"),
            (".spec.list[*]", "[1,2,3,4]"),
            (
                r#".status.conditions[?(@.type=="Ready")].status"#,
                r#"["True"]"#,
            ),
            (
                ".status.conditions[?(@.type=='Other')].status",
                r#"["False"]"#,
            ),
            (".status.conditions[?(@.n >= 2)].type", r#"["Other"]"#),
            (".status.conditions[?(@.n)].type", r#"["Ready","Other"]"#),
            ("..type", r#"["Ready","Other"]"#),
            (".spec.list[", "unexpected character ' ' in the path"),
            (".spec.list[?(@.x", "expected \")]\" in the path"),
        ];
        for (path, wanted) in cases {
            assert_eq!(found(path), wanted, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read(path in "([.\\[\\]?@()'\"*:,=<>a0-]|\\PC){0,24}") {
            found(&path);
        }
    }
}
