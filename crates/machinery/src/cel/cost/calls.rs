//! What functions and operators cost, and how large what they make may be.

use super::super::functions;
use super::super::tree::{Expr, Node};
use super::{Entry, Estimator, LIST, Part, Place, REGEX, Range, STRUCT, TEXT, Type};

/// The kinds of operands that an operator has different costs for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Other,
    Any,
}

fn kind(ty: &Type<'_>) -> Kind {
    match ty {
        Type::String | Type::Bytes => Kind::Text,
        Type::List(_) => Kind::List,
        Type::Dyn | Type::Free => Kind::Any,
        _ => Kind::Other,
    }
}

fn both(left: &Type<'_>, right: &Type<'_>) -> Kind {
    match (kind(left), kind(right)) {
        (Kind::Any, own) | (own, _) => own,
    }
}

/// Looking through the shorter of two.
fn compared(left: &Part<'_>, right: &Part<'_>) -> Range {
    let most = left.size().max.min(right.size().max);
    Range::new(u64::from(most > 0), most).scaled(TEXT)
}

/// An operator of two operands.
pub(super) fn binary<'a>(
    mut part: Part<'a>,
    operator: &str,
    left: &Part<'a>,
    right: &Part<'a>,
) -> Part<'a> {
    let operands = left.cost.plus(right.cost);
    let own = both(&left.ty, &right.ty);
    let cost = match (operator, own) {
        ("==", _) if is_opaque(&left.ty) && left.ty.name() == right.ty.name() => Range::of(1),
        ("==" | "!=", _) | ("<" | "<=" | ">" | ">=", Kind::Text) => compared(left, right),
        ("<" | "<=" | ">" | ">=", Kind::Any) => Range::of(1).union(compared(left, right)),
        ("in", _) => match &right.ty {
            Type::List(_) => right.size(),
            Type::Dyn | Type::Free => right.size().union(Range::of(1)),
            _ => Range::of(1),
        },
        ("+", Kind::Text | Kind::List | Kind::Any) => {
            let size = left.size().plus(right.size());
            part.size = Some(size);
            let entries = left.entry.zip(right.entry);
            part.entry = entries.map(|(a, b): (Entry, Entry)| a.union(b));
            match own {
                Kind::Text => size.scaled(TEXT),
                Kind::List => Range::of(1),
                _ => Range::of(1).union(size.scaled(TEXT)),
            }
        }
        _ => Range::of(1),
    };
    part.cost = cost.plus(operands);
    part
}

fn is_opaque(ty: &Type<'_>) -> bool {
    matches!(ty, Type::Other(_))
}

/// A selector of labels or fields: its text, and what it is made of.
fn selector(size: Range) -> Range {
    #[expect(clippy::cast_precision_loss, reason = "small constants")]
    let requirement = (LIST + STRUCT) as f64;
    let parsed = size.scaled(TEXT);
    let requirements = size.scaled(0.5).scaled(requirement);
    Range::of(LIST).plus(parsed).plus(requirements)
}

/// Running a regular expression over a text.
fn regex(text: Range, expression: Range) -> Range {
    let text = text.plus(Range::of(1)).scaled(TEXT);
    text.times(expression.scaled(REGEX))
}

/// A call of a function of lists that makes a list.
fn made_list(factor: f64, size: Range) -> (Range, Option<Range>) {
    let cost = size.scaled(factor).plus(Range::of(1));
    (cost.plus(Range::of(LIST)), Some(size))
}

impl<'a> Estimator<'_, 'a> {
    pub(super) fn call(&mut self, node: &Node, name: &str, args: &[Node]) -> Part<'a> {
        let args: Vec<Part<'a>> = args.iter().map(|arg| self.node(arg)).collect();
        let mut part = self.part(node, Range::of(0));
        let first = args.first().map_or(Range::UNKNOWN, Part::size);
        let second = args.get(1).map_or(Range::UNKNOWN, Part::size);
        let (cost, size) = match name {
            "dyn" => {
                part.entry = args.first().and_then(|a| a.entry);
                (Range::of(1), args.first().and_then(|a| a.size))
            }
            "url" | "jsonpatch.escapeKey" => (first.scaled(TEXT), Some(first)),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
            | "isSemver" => (first.scaled(TEXT), None),
            "ip.isCanonical" => (first.scaled(2.0 * TEXT), None),
            "bytes" if matches!(args.first().map(|a| &a.ty), Some(Type::String)) => {
                let size = Range::new(first.min, first.max.saturating_mul(4));
                (first.scaled(TEXT), Some(size))
            }
            "string" if matches!(args.first().map(|a| &a.ty), Some(Type::Bytes)) => (
                first.scaled(TEXT),
                Some(Range::new(first.min / 4, first.max)),
            ),
            "strings.quote" => {
                let most = first.max.saturating_mul(2).saturating_add(2);
                let size = Range::new(first.min.saturating_add(2), most);
                (first.scaled(TEXT), Some(size))
            }
            "matches" => (regex(first, second), None),
            "sets.contains" | "sets.intersects" => (first.times(second).plus(Range::of(1)), None),
            "sets.equivalent" => (first.times(second).scaled(2.0).plus(Range::of(1)), None),
            "lists.range" => {
                let count = args.first().and_then(|a| a.literal);
                let count = count.map_or(u64::MAX, |n| u64::try_from(n).unwrap_or(u64::MAX));
                made_list(1.0, Range::of(count))
            }
            _ => (Range::of(1), None),
        };
        part.cost = args.iter().fold(cost, |sum, arg| sum.plus(arg.cost));
        part.size = size;
        self.sized(part, None)
    }

    pub(super) fn method(
        &mut self,
        node: &Node,
        target: &Node,
        name: &str,
        args: &[Node],
    ) -> Part<'a> {
        if let Expr::Ident(space) = &target.expr
            && functions::is_namespace(space)
            && !self.types.contains_key(&target.id)
        {
            return self.call(node, &format!("{space}.{name}"), args);
        }
        let target = self.node(target);
        let args: Vec<Part<'a>> = args.iter().map(|arg| self.node(arg)).collect();
        let mut part = self.part(node, Range::of(0));
        let (cost, size) = self.of_target(&target, name, &args);
        part.cost = args
            .iter()
            .fold(cost.plus(target.cost), |sum, arg| sum.plus(arg.cost));
        part.size = size;
        self.sized(part, None)
    }

    /// The size of the elements of a list, as far as the schema tells; none for what is no list.
    fn element(&self, list: &Part<'a>) -> Option<(Type<'a>, Range)> {
        let Type::List(of) = &list.ty else {
            return None;
        };
        let place = list.place.map(Place::element);
        let size = place.and_then(Place::size).unwrap_or(Range::UNKNOWN);
        Some(((**of).clone(), size))
    }

    fn of_target(
        &self,
        target: &Part<'a>,
        name: &str,
        args: &[Part<'a>],
    ) -> (Range, Option<Range>) {
        let own = target.size();
        let first = args.first().map_or(Range::UNKNOWN, Part::size);
        match name {
            "check" => (Range::of(350_000), None),
            "fieldSelector" | "labelSelector" => (selector(first), None),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                let cost = match self.element(target) {
                    Some((Type::String | Type::Bytes, size)) => {
                        own.times(Range::of(1).plus(size.scaled(TEXT)))
                    }
                    Some(_) => own,
                    None if name == "includes" => own,
                    None => own.scaled(TEXT),
                };
                (cost, None)
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (own.scaled(TEXT), Some(own)),
            "replace" => {
                let second = args.get(1).map_or(Range::UNKNOWN, Part::size);
                (own.scaled(2.0 * TEXT), Some(replaced(own, first, second)))
            }
            "split" => {
                let limit = args.get(1).and_then(|a| a.literal);
                #[expect(clippy::cast_sign_loss, reason = "no limit is the largest of all")]
                let most = limit.map_or(own.max, |n| n as u64);
                (own.scaled(2.0 * TEXT), Some(Range::new(0, most)))
            }
            "join" => {
                let mut size = match self.element(target) {
                    Some((_, element)) => own.times(element),
                    None => Range::of(0),
                };
                if !args.is_empty() {
                    let between = Range::new(own.min.saturating_sub(1), own.max.saturating_sub(1));
                    size = size.plus(first.times(between));
                }
                (size.scaled(TEXT), Some(size))
            }
            "find" | "findAll" => (regex(own, first), Some(Range::new(0, own.max))),
            "matches" => (regex(own, first), None),
            "contains" => (own.scaled(TEXT).times(first.scaled(TEXT)), None),
            "startsWith" | "endsWith" => (first.scaled(TEXT), None),
            "format" => (own.scaled(TEXT), None),
            "containsIP" | "containsCIDR" => (network(name, args, first), None),
            "validate" => (first.scaled(TEXT).scaled(128.0 * REGEX), None),
            "slice" => {
                let bound = |i: usize, other: u64| {
                    let given = args.get(i).and_then(|a| a.literal);
                    given.map_or(other, |n| u64::try_from(n).unwrap_or(other))
                };
                let length = bound(1, own.max).wrapping_sub(bound(0, 0));
                made_list(1.0, Range::of(length))
            }
            "reverse" => made_list(1.0, own),
            "flatten" => made_list(1.0, own),
            "distinct" => made_list(2.0, own.times(own)),
            "sort" => {
                let is_text = matches!(self.element(target), Some((Type::String | Type::Bytes, _)));
                made_list(if is_text { 2.0 + TEXT } else { 2.0 }, own.times(own))
            }
            "@sortByAssociatedKeys" => made_list(2.0 + TEXT, own.times(own)),
            _ => (Range::of(1), None),
        }
    }
}

/// Whether an address is in a range of them.
fn network(name: &str, args: &[Part<'_>], text: Range) -> Range {
    let bytes = Range::new(4, 16);
    let mut cost = bytes.plus(bytes).scaled(TEXT);
    if name == "containsCIDR" {
        cost = cost.plus(bytes.scaled(TEXT)).plus(Range::of(1));
    }
    if matches!(args.first().map(|a| &a.ty), Some(Type::String)) {
        cost = cost.plus(text.scaled(TEXT));
    }
    cost
}

/// The size of a text in which another is replaced.
fn replaced(own: Range, from: Range, to: Range) -> Range {
    let (mut count, mut kept) = (Range::of(0), Range::of(0));
    if from.min == 0 {
        count.max = own.max.saturating_add(1);
        kept.max = own.max;
    } else if to.max <= from.min {
        kept.max = own.max;
    } else {
        count.max = own.max.div_ceil(from.min);
    }
    if from.max == 0 {
        count.min = own.min.saturating_add(1);
        kept.min = own.min;
    } else if from.max <= to.min {
        kept.min = own.min;
    } else {
        count.min = own.min.div_ceil(from.max);
    }
    count.times(to).plus(kept)
}
