//! What an expression may cost at most, told before it runs: from the sizes that a schema allows.
//!
//! Every part has a range of costs, and where its values have a size (characters, elements) a range of sizes. What the
//! reference's parser makes of a macro is what counts here too, so that both refuse the same rules.
//! Behaviour: `github.com/google/cel-go/checker/cost.go`, `k8s.io/apiserver/pkg/cel/{library/cost,common/schemas}.go`.

mod calls;
mod sizes;

use std::borrow::Cow;

use super::check::{Type, Types};
use super::tree::{Comprehension, Expr, Literal, Node};
use super::value;
use crate::structural::{Additional, Structural};
pub use sizes::cardinality;

const LIST: u64 = 10;
const MAP: u64 = 30;
const STRUCT: u64 = 40;
/// Looking through a text, for each letter.
const TEXT: f64 = 0.1;
/// Running a regular expression, for each letter of it.
const REGEX: f64 = 0.25;

/// At least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

impl Range {
    const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    fn of(value: u64) -> Self {
        Self::new(value, value)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    /// Rounded up.
    fn scaled(self, factor: f64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate; the conversion saturates"
        )]
        let scale = |n: u64| (n as f64 * factor).ceil() as u64;
        Self {
            min: scale(self.min),
            max: scale(self.max),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// The sizes of the keys and values of a list or a map that an expression makes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// Where in the schema a value stands.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    At(&'a Structural),
    /// The key of a map.
    Key,
    /// Nowhere that the schema tells of.
    Lost,
}

impl<'a> Place<'a> {
    fn field(self, name: &str) -> Self {
        let Self::At(schema) = self else {
            return Self::Lost;
        };
        let name: Cow<'_, str> = value::unescape(name);
        match (&schema.additional, schema.properties.get(&*name)) {
            (Some(Additional::Schema(_)), _) | (_, None) => Self::Lost,
            (_, Some(field)) if sizes::is_declared(field) => Self::At(field),
            _ => Self::Lost,
        }
    }

    fn element(self) -> Self {
        let Self::At(schema) = self else {
            return Self::Lost;
        };
        match (&schema.items, &schema.additional) {
            (Some(items), _) => Self::At(items),
            (None, Some(Additional::Schema(values))) => Self::At(values),
            _ => Self::Lost,
        }
    }

    fn key(self) -> Self {
        match self {
            Self::At(schema) if matches!(schema.additional, Some(Additional::Schema(_))) => {
                Self::Key
            }
            _ => Self::Lost,
        }
    }

    fn size(self) -> Option<Range> {
        match self {
            Self::At(schema) => Some(Range::new(0, sizes::elements(schema))),
            Self::Key => Some(Range::of(0)),
            Self::Lost => None,
        }
    }
}

/// What is known of a part.
#[derive(Clone, Debug)]
struct Part<'a> {
    cost: Range,
    place: Option<Place<'a>>,
    size: Option<Range>,
    entry: Option<Entry>,
    ty: Type<'a>,
    literal: Option<i64>,
}

impl Part<'_> {
    fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

struct Local<'a> {
    name: String,
    place: Option<Place<'a>>,
    size: Option<Range>,
    entry: Option<Entry>,
}

/// The most that an expression may cost; its variables have the schema `root`.
pub(super) fn estimate<'a>(node: &Node, types: &Types<'a>, root: &'a Structural) -> u64 {
    let mut estimator = Estimator {
        types,
        root,
        locals: Vec::new(),
    };
    estimator.node(node).cost.max
}

struct Estimator<'t, 'a> {
    types: &'t Types<'a>,
    root: &'a Structural,
    locals: Vec<Local<'a>>,
}

fn is_scalar(ty: &Type<'_>) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Time | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

impl<'a> Estimator<'_, 'a> {
    fn ty(&self, node: &Node) -> Type<'a> {
        self.types.get(&node.id).cloned().unwrap_or(Type::Dyn)
    }

    fn part(&self, node: &Node, cost: Range) -> Part<'a> {
        Part {
            cost,
            place: None,
            size: None,
            entry: None,
            ty: self.ty(node),
            literal: None,
        }
    }

    /// Fills in the size of a part that the expression itself does not tell.
    fn sized(&self, mut part: Part<'a>, local: Option<Range>) -> Part<'a> {
        let of_place = || part.place.and_then(Place::size);
        let of_type = || is_scalar(&part.ty).then(|| Range::of(1));
        part.size = part.size.or_else(of_place).or_else(of_type).or(local);
        part
    }

    fn node(&mut self, node: &Node) -> Part<'a> {
        match &node.expr {
            Expr::Literal(literal) => {
                let mut part = self.part(node, Range::of(0));
                part.size = Some(Range::of(match literal {
                    Literal::String(text) => text.chars().count() as u64,
                    Literal::Bytes(bytes) => bytes.len() as u64,
                    _ => 1,
                }));
                if let Literal::Int(n) = literal {
                    part.literal = Some(*n);
                }
                part
            }
            Expr::Ident(name) => self.ident(node, name),
            Expr::Select(target, field, optional) => self.select(node, target, field, *optional),
            Expr::Has(target, _) => {
                let cost = self.node(target).cost;
                let part = self.part(node, cost);
                self.sized(part, None)
            }
            Expr::Index(target, index, optional) => {
                let (target, index) = (self.node(target), self.node(index));
                let cost = Range::of(1).plus(target.cost).plus(index.cost);
                let mut part = self.part(node, cost);
                if !optional {
                    part.size = target.entry.map(|e| e.value);
                    part.place = Some(self.below(target.place, Place::element));
                }
                self.sized(part, None)
            }
            Expr::Not(inner) | Expr::Negate(inner) => {
                let cost = Range::of(1).plus(self.node(inner).cost);
                let part = self.part(node, cost);
                self.sized(part, None)
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.node(left), self.node(right));
                let part = self.part(node, Range::of(0));
                let part = calls::binary(part, operator, &left, &right);
                self.sized(part, None)
            }
            Expr::And(all) | Expr::Or(all) => {
                let mut all = all.iter().map(|n| self.node(n).cost).collect::<Vec<_>>();
                let first = all.remove(0);
                let max = all
                    .iter()
                    .fold(first.max, |sum, c| sum.saturating_add(c.max));
                let part = self.part(node, Range::new(first.min, max));
                self.sized(part, None)
            }
            Expr::If(all) => {
                let [condition, yes, no] = &**all;
                let (condition, yes, no) = (self.node(condition), self.node(yes), self.node(no));
                let part = self.part(node, condition.cost);
                either(part, &yes, &no)
            }
            Expr::Call(name, args) => self.call(node, name, args),
            Expr::Method(target, name, args) => self.method(node, target, name, args),
            Expr::List(items) => self.list(node, items),
            Expr::Map(items) => self.map(node, items),
            Expr::Struct(_, fields) => {
                let cost = fields.iter().fold(Range::of(STRUCT), |sum, (_, value, _)| {
                    sum.plus(self.node(value).cost)
                });
                self.part(node, cost)
            }
            Expr::Over(kind, range, vars, body, made) => {
                self.over(node, *kind, range, vars, body, made.as_deref())
            }
            Expr::Bind(name, value, body) => {
                let value = self.node(value);
                let cost = Range::of(LIST).plus(value.cost);
                let body = self.bound(name, &value, body);
                let mut part = self.part(node, cost.plus(body.cost));
                (part.size, part.entry) = (body.size, body.entry);
                part
            }
            Expr::OptMap(target, name, body, flat) => {
                let target = self.node(target);
                let (asked, taken) = (Range::of(1).plus(target.cost), target.cost);
                let mut value = self.part(node, Range::of(1).plus(taken));
                value.place = None;
                let folded = Range::of(LIST).plus(value.cost);
                let folded = folded.plus(self.bound(name, &value, body).cost);
                let made = folded.plus(Range::of(u64::from(!flat)));
                self.part(node, asked.plus(made.union(Range::of(1))))
            }
        }
    }

    /// A place below another. What is made has no place: what is below that counts as the root, as the reference has it.
    fn below(
        &self,
        place: Option<Place<'a>>,
        step: impl FnOnce(Place<'a>) -> Place<'a>,
    ) -> Place<'a> {
        place.map_or(Place::At(self.root), step)
    }

    fn ident(&self, node: &Node, name: &str) -> Part<'a> {
        let mut part = self.part(node, Range::of(1));
        match self.locals.iter().rev().find(|local| local.name == name) {
            Some(local) => {
                part.place = local.place;
                part.entry = local.entry;
                self.sized(part, local.size)
            }
            None => {
                part.place = Some(Place::At(self.root));
                self.sized(part, None)
            }
        }
    }

    fn select(&mut self, node: &Node, target: &Node, field: &str, optional: bool) -> Part<'a> {
        // `authorizer.requestResource` is one name.
        if !self.types.contains_key(&target.id) {
            return self.part(node, Range::of(1));
        }
        let target = self.node(target);
        let counts = matches!(
            target.ty,
            Type::Map(..) | Type::Object(_) | Type::Fields(..) | Type::Made(_) | Type::Free
        );
        let mut part = self.part(node, target.cost);
        if optional || counts {
            part.cost = part.cost.plus(Range::of(1));
        }
        if !optional {
            part.place = Some(self.below(target.place, |p| p.field(field)));
        }
        self.sized(part, None)
    }

    fn list(&mut self, node: &Node, items: &[(Node, bool)]) -> Part<'a> {
        let mut part = self.part(node, Range::of(LIST));
        let mut value = match items.is_empty() {
            true => Range::of(0),
            false => Range::new(u64::MAX, 0),
        };
        for (item, _) in items {
            let item = self.node(item);
            part.cost = part.cost.plus(item.cost);
            value = value.union(item.size());
        }
        part.size = Some(Range::of(items.len() as u64));
        part.entry = Some(Entry {
            is_list: true,
            key: Range::of(1),
            value,
        });
        part
    }

    fn map(&mut self, node: &Node, items: &[(Node, Node, bool)]) -> Part<'a> {
        let mut part = self.part(node, Range::of(MAP));
        let start = match items.is_empty() {
            true => Range::of(0),
            false => Range::new(u64::MAX, 0),
        };
        let (mut keys, mut values) = (start, start);
        for (key, value, _) in items {
            let (key, value) = (self.node(key), self.node(value));
            part.cost = part.cost.plus(key.cost).plus(value.cost);
            keys = keys.union(key.size());
            values = values.union(value.size());
        }
        part.size = Some(Range::of(items.len() as u64));
        part.entry = Some(Entry {
            is_list: false,
            key: keys,
            value: values,
        });
        part
    }

    fn bound(&mut self, name: &str, value: &Part<'a>, body: &Node) -> Part<'a> {
        self.locals.push(Local {
            name: name.to_owned(),
            place: value.place,
            size: value.size,
            entry: value.entry,
        });
        let body = self.node(body);
        self.locals.pop();
        body
    }

    /// The variables of a comprehension.
    fn iterated(&self, range: &Part<'a>, vars: &[String]) -> Vec<Local<'a>> {
        let is_list = match range.entry {
            Some(entry) => entry.is_list,
            None => matches!(range.ty, Type::List(_)),
        };
        let local = |name: &String, place, size| Local {
            name: name.clone(),
            place: Some(place),
            size,
            entry: None,
        };
        let key_size = range.entry.map(|e| e.key);
        let value_size = range.entry.map(|e| e.value);
        let below = |step: fn(Place<'a>) -> Place<'a>| self.below(range.place, step);
        let lost = |_| Place::Lost;
        match (vars, is_list) {
            ([one], true) => vec![local(one, below(Place::element), value_size)],
            ([one], false) => vec![local(one, below(Place::key), key_size)],
            ([key, value, ..], true) => vec![
                local(key, below(lost), key_size),
                local(value, below(Place::element), value_size),
            ],
            ([key, value, ..], false) => vec![
                local(key, below(Place::key), key_size),
                local(value, below(Place::element), value_size),
            ],
            ([], _) => Vec::new(),
        }
    }

    /// A comprehension costs what its steps cost, for each element: what the macro makes of condition and body.
    fn over(
        &mut self,
        node: &Node,
        kind: Comprehension,
        range: &Node,
        vars: &[String],
        body: &Node,
        made: Option<&Node>,
    ) -> Part<'a> {
        let range = self.node(range);
        let depth = self.locals.len();
        let locals = self.iterated(&range, vars);
        self.locals.extend(locals);
        let always = matches!(body.expr, Expr::Literal(Literal::Bool(true)));
        let condition = self.node(body).cost;
        let made = made.map(|m| self.node(m));
        self.locals.truncate(depth);
        let conditional = |step: u64, cost: Range| match always {
            true => Range::of(step).plus(cost),
            // What does not meet the condition costs a look at what there is.
            false => condition.plus(Range::of(step).plus(cost).union(Range::of(1))),
        };
        let made_cost = made.as_ref().map_or(Range::of(0), |m| m.cost);
        let (start, step, end) = match kind {
            Comprehension::All => (0, Range::of(2).plus(short(condition)), 1),
            Comprehension::Exists => (0, Range::of(3).plus(short(condition)), 1),
            Comprehension::ExistsOne => (0, condition.plus(Range::new(1, 2)), 2),
            Comprehension::Filter => (
                LIST,
                condition.plus(Range::of(LIST + 3).union(Range::of(1))),
                1,
            ),
            Comprehension::Map => (LIST, conditional(LIST + 2, made_cost), 1),
            Comprehension::TransformMap => (MAP, conditional(3, made_cost), 1),
            Comprehension::TransformMapEntry => (MAP, conditional(2, made_cost), 1),
        };
        let count = range.size();
        let cost = range.cost.plus(Range::of(start)).plus(Range::of(end));
        let mut part = self.part(node, cost.plus(count.times(step)));
        let value = match kind {
            Comprehension::Filter => {
                let element = self.iterated(&range, vars).pop();
                let own = element.and_then(|e| e.place.and_then(Place::size).or(e.size));
                Some(own.unwrap_or(Range::UNKNOWN))
            }
            Comprehension::Map => Some(made.as_ref().map_or(Range::UNKNOWN, Part::size)),
            _ => None,
        };
        match kind {
            Comprehension::All | Comprehension::Exists | Comprehension::ExistsOne => {
                part.size = Some(Range::of(1));
            }
            _ => part.size = Some(count),
        }
        part.entry = value.map(|value| Entry {
            is_list: true,
            key: Range::of(1),
            value: value.union(Range::of(0)),
        });
        part
    }
}

/// `&&` and `||` with what has been found so far.
fn short(condition: Range) -> Range {
    Range::new(1, condition.max.saturating_add(1))
}

/// The one or the other.
fn either<'a>(mut part: Part<'a>, yes: &Part<'a>, no: &Part<'a>) -> Part<'a> {
    part.cost = part.cost.plus(yes.cost.union(no.cost));
    part.size = Some(yes.size().union(no.size()));
    part.entry = yes.entry.zip(no.entry).map(|(a, b)| a.union(b));
    part
}

#[cfg(test)]
mod tests;
