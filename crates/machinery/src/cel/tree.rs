//! An expression as a tree, and what is wrong with one that is none.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::check::{Type, Types};

/// Something wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) at: usize,
    pub(super) why: String,
}

impl Issue {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self {
            at,
            why: why.into(),
        }
    }

    /// The issue with the line it is on, as the reference shows it.
    pub(super) fn show(&self, text: &str) -> String {
        let at = self.at.min(text.len());
        let before = &text[..floor(text, at)];
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = text[start..].lines().next().unwrap_or("");
        let column = before[start..].chars().count();
        let dots = ".".repeat(column);
        let why = &self.why;
        format!(
            "ERROR: <input>:{number}:{}: {why}\n | {line}\n | {dots}^",
            column + 1
        )
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A literal value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Arc<[u8]>),
}

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    /// Its number: every node of an expression has one of its own, below the number of nodes.
    pub(super) id: usize,
    pub(super) depth: usize,
    pub(super) expr: Expr,
}

/// What a comprehension makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comprehension {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// Also `transformList`.
    Map,
    TransformMap,
    /// What is made of each element is a map of entries.
    TransformMapEntry,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Ident(String),
    /// Target, field, optional.
    Select(Box<Node>, String, bool),
    /// `has(target.field)`
    Has(Box<Node>, String),
    /// Target, index, optional.
    Index(Box<Node>, Box<Node>, bool),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    If(Box<[Node; 3]>),
    /// Function and arguments.
    Call(String, Vec<Node>),
    /// Target, function and arguments.
    Method(Box<Node>, String, Vec<Node>),
    /// Elements; those that are optional are left out when they have no value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// An object of a named type: its fields, those that are optional left out when they have no value.
    Struct(String, Vec<(String, Node, bool)>),
    /// What, range, variables (one, or key and value), condition or body, and what is made of each element.
    Over(
        Comprehension,
        Box<Node>,
        Vec<String>,
        Box<Node>,
        Option<Box<Node>>,
    ),
    /// Variable, its value, body.
    Bind(String, Box<Node>, Box<Node>),
    /// Target, variable, body, whether the body is optional itself: `optMap`, `optFlatMap`.
    OptMap(Box<Node>, String, Box<Node>, bool),
}

impl Node {
    /// Finds the operators whose operands may be of any type.
    pub(super) fn open_operators(&self, types: &Types<'_>, found: &mut BTreeSet<usize>) {
        if let Expr::Binary(operator, left, right) = &self.expr {
            let open = |node: &Self| types.get(&node.id).is_some_and(Type::is_dyn);
            if open(right) && (*operator == "in" || open(left)) {
                found.insert(self.id);
            }
        }
        for child in self.children() {
            child.open_operators(types, found);
        }
    }

    /// Whether it is a name, or something that is found from one: the reference counts such a path as one step and one more
    /// for each part.
    pub(super) fn is_path(&self) -> bool {
        matches!(
            self.expr,
            Expr::Ident(_) | Expr::Select(..) | Expr::Index(..) | Expr::If(_)
        )
    }

    /// Whether the path begins with a choice, whose own step costs nothing.
    pub(super) fn begins_with_choice(&self) -> bool {
        match &self.expr {
            Expr::If(_) => true,
            Expr::Select(target, ..) | Expr::Index(target, ..) => target.begins_with_choice(),
            _ => false,
        }
    }

    /// Whether it is always the same: the reference works such parts out before the expression runs.
    pub(super) fn is_constant(&self) -> bool {
        match &self.expr {
            Expr::Literal(_) => true,
            Expr::Negate(inner) => matches!(inner.expr, Expr::Literal(_)),
            Expr::List(items) => items.iter().all(|(item, opt)| !opt && item.is_constant()),
            Expr::Map(items) => items
                .iter()
                .all(|(key, value, opt)| !opt && key.is_constant() && value.is_constant()),
            Expr::Call(name, args) => {
                let converts = matches!(
                    name.as_str(),
                    "bool"
                        | "bytes"
                        | "double"
                        | "duration"
                        | "int"
                        | "string"
                        | "timestamp"
                        | "uint"
                );
                converts && matches!(&args[..], [one] if one.is_constant())
            }
            _ => false,
        }
    }
}

impl Node {
    pub(super) fn children(&self) -> Vec<&Node> {
        match &self.expr {
            Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
            Expr::Select(n, ..) | Expr::Has(n, _) | Expr::Not(n) | Expr::Negate(n) => vec![n],
            Expr::Index(a, b, _) | Expr::Binary(_, a, b) | Expr::Bind(_, a, b) => vec![a, b],
            Expr::OptMap(a, _, b, _) => vec![a, b],
            Expr::And(all) | Expr::Or(all) | Expr::Call(_, all) => all.iter().collect(),
            Expr::If(all) => all.iter().collect(),
            Expr::Method(target, _, args) => std::iter::once(&**target).chain(args).collect(),
            Expr::List(items) => items.iter().map(|(n, _)| n).collect(),
            Expr::Map(items) => items.iter().flat_map(|(k, v, _)| [k, v]).collect(),
            Expr::Struct(_, fields) => fields.iter().map(|(_, v, _)| v).collect(),
            Expr::Over(_, range, _, body, made) => {
                let made = made.as_deref();
                [&**range, body].into_iter().chain(made).collect()
            }
        }
    }

    /// `a.b.c`, where the node is nothing else.
    pub(super) fn qualified_name(&self) -> Option<String> {
        match &self.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(target, field, false) => {
                Some(format!("{}.{field}", target.qualified_name()?))
            }
            _ => None,
        }
    }

    /// Whether a variable of this name is used.
    pub(super) fn uses(&self, name: &str) -> bool {
        matches!(&self.expr, Expr::Ident(own) if own == name)
            || self.children().into_iter().any(|n| n.uses(name))
    }
}

impl Node {
    /// Whether a field of a variable is selected, in whatever way.
    pub(super) fn selects(&self, variable: &str, field: &str) -> bool {
        let of = |n: &Node| matches!(&n.expr, Expr::Ident(own) if own == variable);
        let here = match &self.expr {
            Expr::Select(target, own, _) | Expr::Has(target, own) => own == field && of(target),
            Expr::Index(target, ..) => of(target),
            _ => false,
        };
        here || self
            .children()
            .into_iter()
            .any(|n| n.selects(variable, field))
    }
}
