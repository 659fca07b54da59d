//! Evaluation within a budget of steps.
//!
//! Behaviour: errors in one operand of `&&`, `||`, `all` and `exists` do not matter where the other decides.

use std::borrow::Cow;
use std::sync::Arc;

use super::functions;
use super::methods;
use super::parse::{Comprehension, Expr, Literal, Node};
use super::value::{Made, Val};

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The budget is used up.
    #[error("operation cancelled: actual cost limit exceeded")]
    Limit,
    /// Anything else: `no such key: x`, `division by zero` ...
    #[error("{0}")]
    Failed(String),
}

impl EvalError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    pub(super) fn overload() -> Self {
        Self::new("no such overload")
    }
}

pub(super) type Result<'a> = std::result::Result<Val<'a>, EvalError>;

/// The variables of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a>(pub Vec<(&'a str, Val<'a>)>);

pub(super) fn run<'a>(
    root: &'a Node,
    scope: &Scope<'a>,
    limit: u64,
) -> (std::result::Result<Val<'a>, EvalError>, u64) {
    let mut machine = Machine {
        variables: scope.0.clone(),
        cost: 0,
        limit,
    };
    let result = machine.eval(root);
    (result, machine.cost)
}

/// One evaluation.
pub(super) struct Machine<'a> {
    variables: Vec<(&'a str, Val<'a>)>,
    cost: u64,
    limit: u64,
}

impl<'a> Machine<'a> {
    /// Pays for steps.
    pub(super) fn pay(&mut self, steps: usize) -> std::result::Result<(), EvalError> {
        self.cost = self.cost.saturating_add(steps as u64);
        match self.cost > self.limit {
            true => Err(EvalError::Limit),
            false => Ok(()),
        }
    }

    /// Pays for looking at a text of this length: a step for ten bytes.
    pub(super) fn pay_text(&mut self, length: usize) -> std::result::Result<(), EvalError> {
        self.pay(length / 10)
    }

    fn bool(&mut self, node: &'a Node) -> std::result::Result<bool, EvalError> {
        match self.eval(node)? {
            Val::Bool(b) => Ok(b),
            _ => Err(EvalError::overload()),
        }
    }

    pub(super) fn eval(&mut self, node: &'a Node) -> Result<'a> {
        match &node.expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Ident(name) => {
                self.pay(1)?;
                let found = self.variables.iter().rev().find(|(own, _)| own == name);
                match found {
                    Some((_, value)) => Ok(value.clone()),
                    None => functions::type_of_name(name)
                        .map(Val::Type)
                        .ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}"))),
                }
            }
            Expr::Select(target, field, optional) => {
                if let Expr::Ident(space) = &target.expr {
                    let found = self.variables.iter().rev().find(|(own, _)| {
                        own.strip_prefix(&**space)
                            .and_then(|rest| rest.strip_prefix('.'))
                            == Some(field)
                    });
                    if let Some((_, value)) = found {
                        let value = value.clone();
                        self.pay(1)?;
                        return Ok(value);
                    }
                }
                let target = self.eval(target)?;
                self.pay(1)?;
                select(target, field, *optional)
            }
            Expr::Has(target, field) => {
                let target = self.eval(target)?;
                self.pay(1)?;
                let target = match target {
                    Val::Optional(inner) => inner.map(|v| (*v).clone()),
                    value => Some(value),
                };
                let there = |v: &Val<'a>| v.field(field).is_some();
                match target {
                    None => Ok(Val::Bool(false)),
                    Some(v @ (Val::Object(..) | Val::Map(_) | Val::Struct(_))) => {
                        Ok(Val::Bool(there(&v)))
                    }
                    Some(_) => Err(EvalError::overload()),
                }
            }
            Expr::Index(target, index, optional) => {
                let (target, index) = (self.eval(target)?, self.eval(index)?);
                self.pay(1)?;
                at(target, &index, *optional)
            }
            Expr::Not(inner) => {
                self.pay(1)?;
                Ok(Val::Bool(!self.bool(inner)?))
            }
            Expr::Negate(inner) => {
                self.pay(1)?;
                match self.eval(inner)? {
                    Val::Int(n) => n.checked_neg().map(Val::Int),
                    Val::Double(n) => Some(Val::Double(-n)),
                    Val::Duration(d) => d.checked_neg().map(Val::Duration),
                    _ => return Err(EvalError::overload()),
                }
                .ok_or_else(|| EvalError::new("integer overflow"))
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                self.pay(1)?;
                functions::binary(self, operator, &left, &right)
            }
            Expr::And(all) => self.junction(all, false),
            Expr::Or(all) => self.junction(all, true),
            Expr::If(all) => {
                self.pay(1)?;
                let [condition, yes, no] = &**all;
                match self.bool(condition)? {
                    true => self.eval(yes),
                    false => self.eval(no),
                }
            }
            Expr::Call(name, args) => {
                let args = self.all(args)?;
                self.pay(1)?;
                functions::call(self, name, args)
            }
            Expr::Method(target, name, args) => self.method(target, name, args),
            Expr::List(items) => self.list(items),
            Expr::Map(items) => self.map(items),
            Expr::Struct(name, fields) => self.made(name, fields),
            Expr::Over(kind, range, vars, body, made) => {
                self.over(*kind, range, vars, body, made.as_deref())
            }
            Expr::Bind(name, value, body) => {
                let value = self.eval(value)?;
                self.pay(1)?;
                self.with(vec![(name, value)], body)
            }
            Expr::OptMap(target, name, body, flat) => {
                let Val::Optional(inner) = self.eval(target)? else {
                    return Err(EvalError::overload());
                };
                let Some(inner) = inner else {
                    return Ok(Val::Optional(None));
                };
                let made = self.with(vec![(name, (*inner).clone())], body)?;
                Ok(if *flat {
                    made
                } else {
                    Val::Optional(Some(Arc::new(made)))
                })
            }
        }
    }

    fn with(&mut self, own: Vec<(&'a str, Val<'a>)>, body: &'a Node) -> Result<'a> {
        let length = self.variables.len();
        self.variables.extend(own);
        let result = self.eval(body);
        self.variables.truncate(length);
        result
    }

    pub(super) fn all(
        &mut self,
        nodes: &'a [Node],
    ) -> std::result::Result<Vec<Val<'a>>, EvalError> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    /// `&&` and `||`: `decides` ends it, an error only counts when nothing decides.
    fn junction(&mut self, all: &'a [Node], decides: bool) -> Result<'a> {
        let mut failed = None;
        for node in all {
            match self.bool(node) {
                Ok(value) if value == decides => return Ok(Val::Bool(decides)),
                Ok(_) => {}
                Err(EvalError::Limit) => return Err(EvalError::Limit),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        match failed {
            None => Ok(Val::Bool(!decides)),
            Some(error) => Err(error),
        }
    }

    fn method(&mut self, target: &'a Node, name: &'a str, args: &'a [Node]) -> Result<'a> {
        // `optional.of(x)`, `lists.range(x)` and the like are functions with a dot in their name.
        if let Expr::Ident(space) = &target.expr
            && functions::is_namespace(space)
            && !self.variables.iter().any(|(own, _)| own == space)
        {
            let args = self.all(args)?;
            self.pay(1)?;
            return functions::call(self, &format!("{space}.{name}"), args);
        }
        let target = self.eval(target)?;
        if let (Val::Optional(inner), "or" | "orValue") = (&target, name) {
            self.pay(1)?;
            return match (inner, name, args) {
                (Some(_), "or", _) => Ok(target),
                (Some(value), _, _) => Ok((**value).clone()),
                (None, _, [other]) => self.eval(other),
                _ => Err(EvalError::overload()),
            };
        }
        let args = self.all(args)?;
        self.pay(1)?;
        methods::call(self, &target, name, &args)
    }

    fn list(&mut self, items: &'a [(Node, bool)]) -> Result<'a> {
        self.pay(10)?;
        let mut list = Vec::with_capacity(items.len());
        for (node, optional) in items {
            match (self.eval(node)?, optional) {
                (Val::Optional(inner), true) => list.extend(inner.map(|v| (*v).clone())),
                (value, false) => list.push(value),
                (_, true) => return Err(EvalError::overload()),
            }
        }
        Ok(Val::List(Arc::new(list)))
    }

    fn map(&mut self, items: &'a [(Node, Node, bool)]) -> Result<'a> {
        self.pay(30)?;
        let mut map = Vec::with_capacity(items.len());
        for (key, value, optional) in items {
            let key = self.eval(key)?;
            let value = match (self.eval(value)?, optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(inner)), true) => (*inner).clone(),
                (value, false) => value,
                (_, true) => return Err(EvalError::overload()),
            };
            self.insert(&mut map, key, value)?;
        }
        Ok(Val::Map(Arc::new(map)))
    }

    fn made(&mut self, name: &'a str, all: &'a [(String, Node, bool)]) -> Result<'a> {
        self.pay(40)?;
        let mut fields: Vec<(&'a str, Val<'a>)> = Vec::with_capacity(all.len());
        for (field, node, optional) in all {
            let value = match (self.eval(node)?, optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(inner)), true) => (*inner).clone(),
                (value, false) => value,
                (_, true) => return Err(EvalError::overload()),
            };
            // The last one counts.
            fields.retain(|(own, _)| own != field);
            fields.push((field, value));
        }
        Ok(Val::Struct(Arc::new(Made { name, fields })))
    }

    fn insert(
        &mut self,
        map: &mut Vec<(Val<'a>, Val<'a>)>,
        key: Val<'a>,
        value: Val<'a>,
    ) -> std::result::Result<(), EvalError> {
        // A map that is made is short; whoever makes a long one pays for the search.
        self.pay(1 + map.len() / 10)?;
        if map.iter().any(|(own, _)| own.equals(&key)) {
            return Err(EvalError::new("Failed with repeated key"));
        }
        map.push((key, value));
        Ok(())
    }

    fn over(
        &mut self,
        kind: Comprehension,
        range: &'a Node,
        vars: &'a [String],
        body: &'a Node,
        made: Option<&'a Node>,
    ) -> Result<'a> {
        let range = self.eval(range)?;
        let two = vars.len() == 2;
        let pairs: Vec<(Val<'a>, Val<'a>)> = match (range.items(), range.pairs()) {
            (Some(items), _) => {
                let index = |i: usize| Val::Int(i64::try_from(i).unwrap_or(i64::MAX));
                let items = items.into_iter().enumerate();
                items.map(|(i, v)| (index(i), v)).collect()
            }
            // One variable over a map is its key.
            (None, Some(pairs)) if two => pairs,
            (None, Some(pairs)) => pairs.into_iter().map(|(k, _)| (k.clone(), k)).collect(),
            _ => return Err(EvalError::overload()),
        };
        let mut kept = Vec::new();
        let mut map = Vec::new();
        let (mut count, mut failed) = (0, None);
        for (key, value) in pairs {
            self.pay(1)?;
            let own: Vec<(&'a str, Val<'a>)> = match vars {
                [one] => vec![(one, value.clone())],
                [first, second, ..] => vec![(first, key.clone()), (second, value.clone())],
                [] => Vec::new(),
            };
            let holds = match self.with(own.clone(), body) {
                Ok(Val::Bool(holds)) => holds,
                Ok(_) => return Err(EvalError::overload()),
                Err(EvalError::Limit) => return Err(EvalError::Limit),
                Err(error) => match kind {
                    Comprehension::All | Comprehension::Exists => {
                        failed.get_or_insert(error);
                        continue;
                    }
                    _ => return Err(error),
                },
            };
            match (kind, holds, made) {
                (Comprehension::All, false, _) => return Ok(Val::Bool(false)),
                (Comprehension::Exists, true, _) => return Ok(Val::Bool(true)),
                (Comprehension::ExistsOne, true, _) => count += 1,
                (Comprehension::Filter, true, _) => kept.push(value),
                (Comprehension::Map, true, Some(made)) => kept.push(self.with(own, made)?),
                (Comprehension::TransformMap, true, Some(made)) => {
                    let value = self.with(own, made)?;
                    self.insert(&mut map, key, value)?;
                }
                _ => {}
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(match kind {
            Comprehension::All => Val::Bool(true),
            Comprehension::Exists => Val::Bool(false),
            Comprehension::ExistsOne => Val::Bool(count == 1),
            Comprehension::Filter | Comprehension::Map => Val::List(Arc::new(kept)),
            Comprehension::TransformMap => Val::Map(Arc::new(map)),
        })
    }
}

fn constant(literal: &Literal) -> Val<'_> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(b) => Val::Bool(*b),
        Literal::Int(n) => Val::Int(*n),
        Literal::Uint(n) => Val::Uint(*n),
        Literal::Double(n) => Val::Double(*n),
        Literal::String(text) => Val::Str(Cow::Borrowed(text)),
        Literal::Bytes(bytes) => Val::Bytes(bytes.clone()),
    }
}

fn optional(value: Option<Val<'_>>) -> Val<'_> {
    Val::Optional(value.map(Arc::new))
}

fn select<'a>(target: Val<'a>, field: &str, is_optional: bool) -> Result<'a> {
    match target {
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => Ok(optional(inner.field(field))),
        Val::Foreign(own) => match own.field(field) {
            Some(value) if is_optional => Ok(optional(Some(value?))),
            Some(value) => value,
            None => Err(EvalError::new(format!("no such key: {field}"))),
        },
        target @ (Val::Object(..) | Val::Map(_) | Val::Struct(_)) => {
            match (target.field(field), is_optional) {
                (found, true) => Ok(optional(found)),
                (Some(found), false) => Ok(found),
                (None, false) => Err(EvalError::new(format!("no such key: {field}"))),
            }
        }
        _ => Err(EvalError::overload()),
    }
}

fn at<'a>(target: Val<'a>, index: &Val<'a>, is_optional: bool) -> Result<'a> {
    let (target, is_optional) = match target {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => ((*inner).clone(), true),
        target => (target, is_optional),
    };
    let found = match (&target, index) {
        (Val::List(_) | Val::Array(..), index) => {
            let place = match index {
                Val::Int(n) => usize::try_from(*n).ok(),
                Val::Uint(n) => usize::try_from(*n).ok(),
                _ => return Err(EvalError::overload()),
            };
            match (&target, place) {
                (Val::List(items), Some(place)) => items.get(place).cloned(),
                (Val::Array(items, schema), Some(place)) => {
                    let schema = schema.and_then(|s| s.items.as_deref());
                    items.get(place).map(|v| Val::of(v, schema))
                }
                _ => None,
            }
        }
        (Val::Map(_) | Val::Object(..), key) => target.get(key),
        _ => return Err(EvalError::overload()),
    };
    match (found, is_optional) {
        (found, true) => Ok(optional(found)),
        (Some(found), false) => Ok(found),
        (None, false) => Err(EvalError::new(match &target {
            Val::Map(_) | Val::Object(..) => {
                format!(
                    "no such key: {}",
                    functions::text_of(index).unwrap_or_default()
                )
            }
            _ => format!(
                "index out of bounds: {}",
                functions::text_of(index).unwrap_or_default()
            ),
        })),
    }
}
