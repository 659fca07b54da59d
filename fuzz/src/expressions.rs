//! Expressions: read, checked, estimated, run.

use std::hint::black_box;
use std::sync::LazyLock;

use machinery::cel::environment::{Environment, Options};
use machinery::cel::{CALL_LIMIT, Program, Scope, Type, Val, Variable};
use machinery::structural::Structural;
use serde_json::{Value, json};

use crate::texts::text;

static SCHEMA: LazyLock<Structural> = LazyLock::new(|| {
    Structural::read(&json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "t": {"type": "string"}, "d": {"type": "number"},
        "l": {"type": "array", "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "p": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        "w": {"type": "string", "format": "date-time"}, "x": {"x-kubernetes-int-or-string": true},
    }}))
});

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({"n": 3, "t": "text", "d": 1.5, "l": ["a", "b"], "m": {"k": 1}, "p": [{"n": 1}, {"n": 2}],
        "w": "2026-01-01T00:00:00Z", "x": "1"})
});

/// Words that expressions are made of; random bytes choose among them, so that most texts are nearly expressions.
const WORDS: &[&str] = &[
    "self",
    ".",
    "n",
    "t",
    "d",
    "l",
    "m",
    "p",
    "w",
    "x",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    "?",
    ":",
    "==",
    "!=",
    "<",
    ">",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&&",
    "||",
    "!",
    "in",
    "'a'",
    "1",
    "0",
    "2u",
    "1.5",
    "true",
    "null",
    "size",
    "all",
    "exists",
    "map",
    "filter",
    "transformMap",
    "has",
    "matches",
    "split",
    "join",
    "format",
    "quantity",
    "ip",
    "cidr",
    "duration",
    "timestamp",
    "'%s%d'",
    "optional",
    "of",
    "none",
    "orValue",
    "sort",
    "distinct",
    "sum",
    "string",
    "int",
    "bytes",
    "r'\\d+'",
    "\"\\u00e9\"",
    "9223372036854775807",
    "-9223372036854775808",
    "cel",
    "bind",
    "y",
    "sets",
    "contains",
];

/// Half of the inputs are texts, half are choices of words.
fn expression(bytes: &[u8]) -> Option<String> {
    let (first, rest) = bytes.split_first()?;
    if first % 2 == 0 {
        return text(rest).map(str::to_owned);
    }
    let words = rest.iter().map(|b| WORDS[usize::from(*b) % WORDS.len()]);
    Some(words.collect())
}

/// Rules of custom kinds.
pub(crate) fn cel(bytes: &[u8]) {
    let Some(text) = expression(bytes) else {
        return;
    };
    let variables = ["self", "oldSelf"].map(|name| Variable {
        name,
        ty: Type::of(Some(&SCHEMA)),
    });
    let Ok((program, _, cost)) = Program::compile_rule(&text, &variables, &SCHEMA) else {
        return;
    };
    black_box(cost);
    let own = Val::of(&OBJECT, Some(&SCHEMA));
    let scope = Scope(vec![("self", own.clone()), ("oldSelf", own)]);
    let (result, spent) = program.run(&scope, CALL_LIMIT / 10);
    black_box((result.ok().map(|value| value.to_json().ok()), spent));
}

/// Expressions of policies, which make objects too.
pub(crate) fn cel_policy(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let options = Options {
        params: true,
        authorizer: true,
    };
    let environment = Environment::admission(options).with_patches();
    let Ok(compiled) = environment.compile(text, &[]) else {
        return;
    };
    let object = Val::of(&OBJECT, None);
    let scope = Scope(vec![("object", object.clone()), ("params", object)]);
    let (result, _) = compiled.run(&scope);
    black_box(result.ok().map(|value| value.to_json().ok()));
}
