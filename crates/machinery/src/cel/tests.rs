use serde_json::{Value, json};

use super::{CALL_LIMIT, Program, Scope, Type, Val, Variable};
use crate::structural::Structural;

fn schema() -> Structural {
    Structural::read(&json!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "min": {"type": "integer"}, "name": {"type": "string"}, "ratio": {"type": "number"},
        "when": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"},
        "port": {"x-kubernetes-int-or-string": true}, "a-b": {"type": "string"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}},
        "maybe": {"type": "string", "nullable": true}, "namespace": {"type": "string"},
    }}))
}

fn object() -> Value {
    json!({"replicas": 3, "min": 1, "name": "web", "ratio": 1, "when": "2026-01-01T10:00:00Z", "for": "1h30m", "port": "http",
        "a-b": "dash", "tags": ["x", "y"], "labels": {"app": "web", "tier": "front"},
        "parts": [{"name": "a", "n": 1}, {"name": "b", "n": 2}], "maybe": null, "namespace": "ns"})
}

fn evaluate(text: &str) -> String {
    let (schema, object) = (schema(), object());
    let variable = |name| Variable {
        name,
        ty: Type::of(Some(&schema)),
    };
    let program = match Program::compile(text, &[variable("self"), variable("oldSelf")]) {
        Ok((program, Type::Bool | Type::Dyn)) => program,
        Ok((_, ty)) => return format!("is a {}", ty.name()),
        Err(why) => return why,
    };
    let own = Val::of(&object, Some(&schema));
    let scope = Scope(vec![("self", own.clone()), ("oldSelf", own)]);
    match program.run(&scope, CALL_LIMIT) {
        (Ok(Val::Bool(result)), _) => result.to_string(),
        (Ok(other), _) => format!("{other:?}"),
        (Err(error), _) => error.to_string(),
    }
}

#[test]
fn expressions_hold() {
    let cases = [
        "self.replicas >= self.min",
        "self.replicas + 1 == 4",
        "self.replicas * 2 - 1 == 5 && 7 / 2 == 3 && 7 % 4 == 3",
        "self.name.startsWith('w') && self.name.matches('^[a-z]+$')",
        "matches(self.name, '^[a-z]+$') && !matches(self.name, '^\\\\d')",
        "size(self.name) == 3 && self.name.size() == 3",
        "has(self.labels) && !has(self.labels.other)",
        "self.labels['app'] == 'web'",
        "'app' in self.labels",
        "self.labels.all(k, k != 'x')",
        "self.labels.exists(k, v, k == 'app' && v == 'web')",
        "self.parts.all(p, p.n > 0)",
        "self.parts.exists_one(p, p.name == 'a')",
        "self.parts.map(p, p.n).sum() == 3",
        "self.parts.filter(p, p.n > 1)[0].name == 'b'",
        "self.parts.map(p, p.n > 1, p.name) == ['b']",
        "self.tags == ['y', 'x']",
        "self.tags.join(',') == 'x,y'",
        "sets.contains(self.tags, ['x'])",
        "self.when < timestamp('2026-01-02T00:00:00Z')",
        "self.when.getHours() == 10",
        "self.for == duration('90m')",
        "self.when + self.for == timestamp('2026-01-01T11:30:00Z')",
        "self.port == 'http' || self.port == 80",
        "type(self.port) == string",
        "self.a__dash__b == 'dash'",
        "self.__namespace__ == 'ns'",
        "self.maybe == null",
        "self.?other.orValue('x') == 'x' || true",
        "self.labels[?'none'].orValue('d') == 'd'",
        "optional.of(1).optMap(x, x + 1).value() == 2",
        "cel.bind(n, self.replicas, n * n) == 9",
        "self.replicas > 2 ? true : false",
        "'%s has %d'.format([self.name, self.replicas]) == 'web has 3'",
        "quantity('1Gi').isGreaterThan(quantity('500Mi'))",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
        "isIP('::1') && !isIP('x')",
        "url('https://a.b:80/c?d=e').getHostname() == 'a.b'",
        "self.ratio == 1.0",
        "'a.b.c'.split('.').size() == 3",
        "'abc'.substring(1) == 'bc'",
        "[1, 2, 3].isSorted()",
        "{'a': 1}.a == 1",
        "1 / 0 > 1 || true",
        "!(false && 1 / 0 > 1)",
        "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v01.2', true).minor() == 2 && !isSemver('1.2')",
        "quantity('1Gi').add(quantity('1Gi')).compareTo(quantity('2Gi')) == 0 && quantity('5').sub(2).asInteger() == 3",
        "sign(quantity('-1')) == -1 && !quantity('50m').isInteger() && quantity('1500m').asApproximateFloat() == 1.5",
        "!format.dns1123Label().validate(self.name).hasValue() && format.named('uuid').value().validate('x').value()[0] == 'does not match the UUID format'",
        "self.tags.includes('x') && !self.tags.includes('z')",
        "'abcabc'.indexOf('c', 3) == 5 && 'abcabc'.lastIndexOf('b', 3) == 1",
        "'s' + string(self.labels.app) == 'sweb'",
        r#""\u00e9" == 'é'"#,
        "r'\\d' == '\\\\d'",
        "[1, 2].transformList(i, v, i + v) == [1, 3]",
        "b'abc'.size() == 3",
        "0x10 == 16 && 1e3 == 1000.0",
        "-9223372036854775808 < 0",
        "self.parts.map(p, p.name).distinct().size() == 2",
    ];
    for case in cases {
        let wanted = "true";
        if case.contains("self.?other") {
            assert!(evaluate(case).contains("undefined field 'other'"), "{case}");
            continue;
        }
        assert_eq!(evaluate(case), wanted, "{case}");
    }
}

#[test]
fn nonsense_is_told() {
    let cases = [
        (
            "self.other == 1",
            "ERROR: <input>:1:5: undefined field 'other'\n | self.other == 1\n | ....^",
        ),
        (
            "math.abs(1) == 1",
            "ERROR: <input>:1:1: undeclared reference to 'math' (in container '')\n | math.abs(1) == 1\n | ^",
        ),
        (
            "other == 1",
            "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other == 1\n | ^",
        ),
        (
            "self.name > 1",
            "ERROR: <input>:1:11: found no matching overload for '_>_' applied to '(string, int)'\n | self.name > 1\n | ..........^",
        ),
        ("self.replicas", "is a int"),
        (
            "self.name ==",
            "ERROR: <input>:1:13: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.name ==\n | ............^",
        ),
        ("self.labels.none == 'x'", "no such key: none"),
        ("self.parts[5].n == 1", "index out of bounds: 5"),
        ("self.replicas / 0 == 1", "division by zero"),
        ("self.port > 1", "no such overload"),
    ];
    for (case, wanted) in cases {
        assert_eq!(evaluate(case), wanted, "{case}");
    }
}

#[test]
fn evaluation_ends() {
    let schema = Structural::read(&json!({"type": "array", "items": {"type": "integer"}}));
    let object: Value = (0..1000).collect::<Vec<i32>>().into();
    let text = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0))))";
    let variable = Variable {
        name: "self",
        ty: Type::of(Some(&schema)),
    };
    let (program, _) = Program::compile(text, &[variable]).unwrap();
    let scope = Scope(vec![("self", Val::of(&object, Some(&schema)))]);
    let (result, _) = program.run(&scope, CALL_LIMIT);
    assert_eq!(
        result.unwrap_err().to_string(),
        "operation cancelled: actual cost limit exceeded"
    );
    let deep = format!("{}true{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(evaluate(&deep).contains("recursion limit"));
    let long = format!("0{} == 0", " + 1".repeat(10_000));
    assert!(evaluate(&long).contains("recursion limit"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read(text in "(self|\\.|name|replicas|tags|parts|all|map|\\(|\\)|\\[|\\]|\\{|\\}|x|,| |==|&&|\\|\\||!|-|\\?|:|1|'a'|\\PC){0,30}") {
        evaluate(&text);
    }
}
