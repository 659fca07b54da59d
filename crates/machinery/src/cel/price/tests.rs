//! What expressions cost in the reference, measured there (cel-go 0.29 with the environment of v1.37), and here.

use serde_json::json;

use super::super::{CALL_LIMIT, EvalError, Program, Scope, Type, Val, Variable};

#[test]
fn expressions_cost_what_they_cost_in_the_reference() {
    let list = || Type::List(Box::new(Type::String));
    let map = Type::Map(Box::new(Type::String), Box::new(Type::String));
    let types = [
        ("self", Type::Dyn),
        ("s", Type::String),
        ("n", Type::Int),
        ("b", Type::Bool),
        ("l", list()),
        ("m", map),
    ];
    let values = json!({
        "self": {"a": "text", "n": 3, "list": [1, 2], "map": {"k": "v", "j": "w"}, "k": "a", "deep": {"er": {"x": 1}}},
        "s": "0123456789abcdefghijklmnopqrstuvwxyz", "n": 2, "b": true, "l": ["aaa", "bbb", "ccc"], "m": {"a": "1", "b": "2"},
    });
    let mut differ = Vec::new();
    for line in include_str!("facts.tsv").lines() {
        let (cost, text) = line.split_once('\t').expect("a cost and an expression");
        let variables: Vec<Variable<'_, '_>> = types
            .iter()
            .map(|(name, ty)| Variable {
                name,
                ty: ty.clone(),
            })
            .collect();
        let program = match Program::compile(text, &variables) {
            Ok((program, _)) => program,
            Err(why) => {
                differ.push(format!("{text}: {why}"));
                continue;
            }
        };
        let scope = types
            .iter()
            .map(|(name, _)| (*name, Val::of(&values[name], None)));
        let (result, own) = program.run(&Scope(scope.collect()), CALL_LIMIT);
        let shown = result.map(drop);
        if own.to_string() != cost || shown.is_err() {
            differ.push(format!("{text}: {own} instead of {cost} {shown:?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What costs nothing there takes time all the same: it ends too.
#[test]
fn work_without_a_price_ends() {
    let value = json!(vec![0; 10_000]);
    let variables = [Variable {
        name: "l",
        ty: Type::List(Box::new(Type::Int)),
    }];
    let text = "l.exists_one(x, l.exists_one(y, false))";
    let (program, _) = Program::compile(text, &variables).expect("good");
    let scope = Scope(vec![("l", Val::of(&value, None))]);
    assert_eq!(
        program.run(&scope, CALL_LIMIT).0.map(drop),
        Err(EvalError::Limit)
    );
}
