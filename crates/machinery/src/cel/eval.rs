//! Evaluation within a budget of steps.
//!
//! Behaviour: errors in one operand of `&&`, `||`, `all` and `exists` do not matter where the other decides.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::functions;
use super::methods;
use super::price;
use super::tree::{Comprehension, Expr, Literal, Node};
use super::value::{Made, Val};

/// Work that costs nothing in the reference's count and yet takes time: so much of it ends an evaluation as well.
const MOST_WORK: usize = 20_000_000;

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
    open: &'a BTreeSet<usize>,
    scope: &Scope<'a>,
    limit: u64,
) -> (std::result::Result<Val<'a>, EvalError>, u64) {
    let mut machine = Machine {
        variables: scope.0.clone(),
        open,
        cost: 0,
        limit,
        work: 0,
    };
    let result = machine.eval(root);
    (result, machine.cost)
}

/// One evaluation.
pub(super) struct Machine<'a> {
    variables: Vec<(&'a str, Val<'a>)>,
    /// Operators whose operands may be of any type.
    open: &'a BTreeSet<usize>,
    cost: u64,
    limit: u64,
    work: usize,
}

impl<'a> Machine<'a> {
    /// Pays for steps.
    pub(super) fn pay(&mut self, steps: u64) -> std::result::Result<(), EvalError> {
        self.cost = self.cost.saturating_add(steps);
        match self.cost > self.limit {
            true => Err(EvalError::Limit),
            false => Ok(()),
        }
    }

    /// Does something that has no price.
    pub(super) fn work(&mut self, steps: usize) -> std::result::Result<(), EvalError> {
        self.work = self.work.saturating_add(steps);
        match self.work > MOST_WORK {
            true => Err(EvalError::Limit),
            false => Ok(()),
        }
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
            Expr::Ident(_) | Expr::Select(..) | Expr::Index(..) => {
                let value = self.path(node)?;
                let names_a_type = matches!((&node.expr, &value), (Expr::Ident(_), Val::Type(_)));
                if !node.begins_with_choice() && !names_a_type {
                    self.pay(1)?;
                }
                Ok(value)
            }
            Expr::Has(target, field) => self.has(target, field),
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
            Expr::Binary("in", left, right) if right.is_constant() => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                functions::binary(self, "in", &left, &right)
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                let open = self.open.contains(&node.id);
                self.pay(price::operator(operator, &left, &right, open))?;
                functions::binary(self, operator, &left, &right)
            }
            Expr::And(all) => self.junction(all, false),
            Expr::Or(all) => self.junction(all, true),
            Expr::If(all) => {
                let [condition, yes, no] = &**all;
                match self.bool(condition)? {
                    true => self.part(yes),
                    false => self.part(no),
                }
            }
            // Worked out beforehand, as far as the price goes.
            Expr::Call(name, args) if node.is_constant() => {
                let args = self.all(args)?;
                functions::call(self, name, args)
            }
            Expr::Call(name, args) => {
                let args = self.all(args)?;
                self.function(name, args)
            }
            Expr::Method(target, name, args) => self.method(target, name, args),
            Expr::List(items) => self.list(items, node.is_constant()),
            Expr::Map(items) => self.map(items, node.is_constant()),
            Expr::Struct(name, fields) => self.made(name, fields),
            Expr::Over(kind, range, vars, body, made) => {
                self.over(*kind, range, vars, body, made.as_deref())
            }
            Expr::Bind(name, value, body) => {
                let value = self.eval(value)?;
                self.with(vec![(name, value)], body)
            }
            Expr::OptMap(target, name, body, flat) => {
                let before = self.cost;
                let Val::Optional(inner) = self.eval(target)? else {
                    return Err(EvalError::overload());
                };
                // The macro asks its target twice: whether it has a value, and for it.
                let once = self.cost - before;
                let Some(inner) = inner else {
                    self.pay(2)?;
                    return Ok(Val::Optional(None));
                };
                self.pay(once + if *flat { 2 } else { 3 })?;
                let made = self.with(vec![(name, (*inner).clone())], body)?;
                Ok(if *flat {
                    made
                } else {
                    Val::Optional(Some(Arc::new(made)))
                })
            }
        }
    }

    /// A branch of a choice, or an index: of a path only the parts cost, not the path.
    fn part(&mut self, node: &'a Node) -> Result<'a> {
        match node.is_path() {
            true => self.path(node),
            false => self.eval(node),
        }
    }

    /// A name, or something found from one; the parts are paid, the path itself is not.
    fn path(&mut self, node: &'a Node) -> Result<'a> {
        match &node.expr {
            Expr::Ident(name) => match self.variable(name) {
                Some(value) => Ok(value),
                None => functions::type_of_name(name)
                    .map(Val::Type)
                    .ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}"))),
            },
            Expr::Select(target, field, optional) => {
                if let Expr::Ident(space) = &target.expr
                    && let Some(value) = self.variable_of(space, field)
                {
                    return Ok(value);
                }
                let target = self.part(target)?;
                let optional = *optional || matches!(target, Val::Optional(_));
                let found = select(target, field, optional);
                if !(optional && matches!(found, Ok(Val::Optional(None)))) {
                    self.pay(1)?;
                }
                found
            }
            Expr::Index(target, index, optional) => {
                let target = self.part(target)?;
                let index = self.part(index)?;
                let optional = *optional || matches!(target, Val::Optional(_));
                let found = at(target, &index, optional);
                if !(optional && matches!(found, Ok(Val::Optional(None)))) {
                    self.pay(1)?;
                }
                found
            }
            _ => self.eval(node),
        }
    }

    fn variable(&self, name: &str) -> Option<Val<'a>> {
        let mut all = self.variables.iter().rev();
        all.find(|(own, _)| *own == name).map(|(_, v)| v.clone())
    }

    /// A variable whose name has a dot in it.
    fn variable_of(&self, space: &str, field: &str) -> Option<Val<'a>> {
        let mut all = self.variables.iter().rev();
        let found = all.find(|(own, _)| {
            let rest = own.strip_prefix(space);
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(field)
        });
        found.map(|(_, value)| value.clone())
    }

    /// `has(target.field)`: the parts of the path are paid.
    fn has(&mut self, target: &'a Node, field: &str) -> Result<'a> {
        let target = self.part(target)?;
        self.pay(1)?;
        let target = match target {
            Val::Optional(inner) => inner.map(|v| (*v).clone()),
            value => Some(value),
        };
        match target {
            None => Ok(Val::Bool(false)),
            Some(v @ (Val::Object(..) | Val::Map(_) | Val::Struct(_))) => {
                Ok(Val::Bool(v.field(field).is_some()))
            }
            Some(_) => Err(EvalError::overload()),
        }
    }

    fn function(&mut self, name: &str, args: Vec<Val<'a>>) -> Result<'a> {
        let shown: Vec<&Val<'a>> = args.iter().collect();
        // What can be called as a function and as a method has one price.
        self.pay(price::call(name, &shown))?;
        functions::call(self, name, args)
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
            return self.function(&format!("{space}.{name}"), args);
        }
        let target = self.eval(target)?;
        if let (Val::Optional(inner), "or" | "orValue") = (&target, name) {
            return match (inner, name, args) {
                (Some(_), "or", _) => Ok(target),
                (Some(value), _, _) => Ok((**value).clone()),
                (None, _, [other]) => self.eval(other),
                _ => Err(EvalError::overload()),
            };
        }
        let args = self.all(args)?;
        let all: Vec<&Val<'a>> = [&target].into_iter().chain(&args).collect();
        self.pay(price::call(name, &all))?;
        let result = methods::call(self, &target, name, &args)?;
        self.pay(price::result(name, &result))?;
        Ok(result)
    }

    fn list(&mut self, items: &'a [(Node, bool)], constant: bool) -> Result<'a> {
        self.work(items.len())?;
        self.pay(if constant { 0 } else { price::LIST })?;
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

    fn map(&mut self, items: &'a [(Node, Node, bool)], constant: bool) -> Result<'a> {
        self.work(items.len())?;
        self.pay(if constant { 0 } else { price::MAP })?;
        let mut map = Entries::default();
        for (key, value, optional) in items {
            let key = self.eval(key)?;
            let value = match (self.eval(value)?, optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(inner)), true) => (*inner).clone(),
                (value, false) => value,
                (_, true) => return Err(EvalError::overload()),
            };
            map.insert(key, value)?;
        }
        Ok(map.made())
    }

    fn made(&mut self, name: &'a str, all: &'a [(String, Node, bool)]) -> Result<'a> {
        self.pay(price::STRUCT)?;
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
        let mut map = Entries::default();
        let (mut count, mut failed) = (0, None);
        self.work(pairs.len())?;
        let rounds = pairs.len();
        for (round, (key, value)) in pairs.into_iter().enumerate() {
            // What the macro looks at before each round, and what it joins the round's result to.
            self.pay(match kind {
                Comprehension::All => 3,
                Comprehension::Exists => 4,
                _ => 0,
            })?;
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
                // It is seen before the next round that there need not be one.
                (Comprehension::All, false, _) => {
                    self.pay(if rounds > round + 1 { 3 } else { 1 })?;
                    return Ok(Val::Bool(false));
                }
                (Comprehension::Exists, true, _) => {
                    self.pay(if rounds > round + 1 { 4 } else { 1 })?;
                    return Ok(Val::Bool(true));
                }
                (Comprehension::ExistsOne, true, _) => {
                    self.pay(2)?;
                    count += 1;
                }
                (Comprehension::Filter, true, _) => {
                    self.pay(3 + price::LIST)?;
                    kept.push(value);
                }
                (Comprehension::Map, true, Some(made)) => {
                    kept.push(self.with(own, made)?);
                    let list = if made.is_constant() { 0 } else { price::LIST };
                    self.pay(2 + list)?;
                }
                (Comprehension::TransformMap, true, Some(made)) => {
                    let value = self.with(own, made)?;
                    self.pay(3)?;
                    map.insert(key, value)?;
                }
                (Comprehension::TransformMapEntry, true, Some(made)) => {
                    let entries = self.with(own, made)?;
                    self.pay(2)?;
                    for (key, value) in entries.pairs().ok_or_else(EvalError::overload)? {
                        map.insert(key, value)?;
                    }
                }
                _ => {}
            }
        }
        // The result is looked at.
        self.pay(if kind == Comprehension::ExistsOne {
            2
        } else {
            1
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(match kind {
            Comprehension::All => Val::Bool(true),
            Comprehension::Exists => Val::Bool(false),
            Comprehension::ExistsOne => Val::Bool(count == 1),
            Comprehension::Filter | Comprehension::Map => Val::List(Arc::new(kept)),
            Comprehension::TransformMap | Comprehension::TransformMapEntry => map.made(),
        })
    }
}

/// A map that is being made: no key twice.
#[derive(Default)]
struct Entries<'a> {
    pairs: Vec<(Val<'a>, Val<'a>)>,
    keys: HashSet<(bool, String)>,
}

impl<'a> Entries<'a> {
    fn insert(&mut self, key: Val<'a>, value: Val<'a>) -> std::result::Result<(), EvalError> {
        let is_text = matches!(key, Val::Str(_));
        let text = functions::text_of(&key).unwrap_or_default();
        if !self.keys.insert((is_text, text)) {
            return Err(EvalError::new("Failed with repeated key"));
        }
        self.pairs.push((key, value));
        Ok(())
    }

    fn made(self) -> Val<'a> {
        Val::Map(Arc::new(self.pairs))
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
