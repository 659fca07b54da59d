//! Does an expression make sense: names, fields and functions that there are, applied to what they take.
//!
//! What has no schema, or one that leaves the type open, is `dyn`: it goes with everything and is looked at when it is run.

mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions;
use super::tree::{Comprehension, Expr, Issue, Literal, Node};
use super::value;
use super::{Extensions, Variable};
use crate::structural::{Additional, Structural, Type as Kind};
use calls::{binary, function, method};

/// What is known of a value's type.
#[derive(Clone, Debug)]
pub enum Type<'a> {
    /// Anything: looked at when it is run.
    Dyn,
    /// Not known yet, as that of the elements of an empty list: becomes what it meets.
    Free,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Timestamp`
    Time,
    /// A type.
    Type,
    /// A list of such elements.
    List(Box<Ty<'a>>),
    /// A map from such keys to such values.
    Map(Box<Ty<'a>>, Box<Ty<'a>>),
    /// An object with the fields of a schema.
    Object(&'a Structural),
    /// An object with these fields, whose type has a name.
    Fields(&'static str, Arc<BTreeMap<String, Type<'a>>>),
    /// An object that expressions make, of a type with this name: `Object.spec`, `JSONPatch`.
    Made(Arc<str>),
    /// A value that may be absent.
    Optional(Box<Ty<'a>>),
    /// A value that only its own functions know: quantities, addresses, authorizers.
    Other(&'static str),
}

use Type as Ty;

type Checked<'a> = Result<Ty<'a>, Issue>;

impl<'a> Ty<'a> {
    /// The type of what has this schema; none: anything.
    pub fn of(schema: Option<&'a Structural>) -> Self {
        let Some(schema) = schema else {
            return Self::Dyn;
        };
        if schema.int_or_string {
            return Self::Dyn;
        }
        let format = schema.rare.as_deref().map_or("", |r| &*r.format);
        match schema.kind {
            Kind::Any => Self::Dyn,
            Kind::Boolean => Self::Bool,
            Kind::Integer => Self::Int,
            Kind::Number => Self::Double,
            Kind::String => match format {
                "date" | "date-time" => Self::Time,
                "duration" => Self::Duration,
                "byte" => Self::Bytes,
                _ => Self::String,
            },
            Kind::Array => Self::List(Box::new(Self::of(schema.items.as_deref()))),
            Kind::Object => match &schema.additional {
                Some(Additional::Schema(values)) => {
                    Self::Map(Box::new(Self::String), Box::new(Self::of(Some(values))))
                }
                Some(Additional::Bool(true)) => {
                    Self::Map(Box::new(Self::String), Box::new(Self::Dyn))
                }
                _ if schema.properties.is_empty() && schema.preserve_unknown => Self::Dyn,
                _ => Self::Object(schema),
            },
        }
    }

    pub(super) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Free)
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// The name of the type.
    pub fn name(&self) -> String {
        match self {
            Self::Dyn | Self::Free => "dyn".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Uint => "uint".to_owned(),
            Self::Double => "double".to_owned(),
            Self::String => "string".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Duration => "google.protobuf.Duration".to_owned(),
            Self::Time => "google.protobuf.Timestamp".to_owned(),
            Self::Type => "type".to_owned(),
            Self::List(of) => format!("list({})", of.name()),
            Self::Map(key, value) => format!("map({}, {})", key.name(), value.name()),
            Self::Object(_) => "object".to_owned(),
            Self::Fields(name, _) => (*name).to_owned(),
            Self::Optional(of) => format!("optional_type({})", of.name()),
            Self::Other(name) => (*name).to_owned(),
            Self::Made(name) => name.to_string(),
        }
    }

    /// The type of what is the one or the other; none when they are two.
    fn join(&self, other: &Self) -> Option<Self> {
        if !self.fits(other) {
            return None;
        }
        let inner = |a: &Self, b: &Self| a.join(b).map(Box::new);
        Some(match (self, other) {
            (Self::Free, own) | (own, Self::Free) => own.clone(),
            (Self::Dyn, _) | (_, Self::Dyn) => Self::Dyn,
            (Self::List(a), Self::List(b)) => Self::List(inner(a, b)?),
            (Self::Optional(a), Self::Optional(b)) => Self::Optional(inner(a, b)?),
            (Self::Map(a, x), Self::Map(b, y)) => Self::Map(inner(a, b)?, inner(x, y)?),
            (own, _) => own.clone(),
        })
    }

    /// Whether the two can be the same type.
    fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Free, _) | (_, Self::Dyn | Self::Free) => true,
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.fits(b),
            (Self::Map(a, x), Self::Map(b, y)) => a.fits(b) && x.fits(y),
            (Self::Object(_), Self::Object(_) | Self::Map(..)) => true,
            (Self::Map(..), Self::Object(_)) => true,
            (Self::Other(a), Self::Other(b)) => a == b,
            (Self::Made(a), Self::Made(b)) => a == b,
            (Self::Fields(a, _), Self::Fields(b, _)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// The types of the nodes of an expression, by their numbers.
pub(super) type Types<'a> = BTreeMap<usize, Ty<'a>>;

/// The type of an expression, and those of its parts.
pub(super) fn check<'a>(
    root: &Node,
    variables: &[Variable<'_, 'a>],
    extensions: Extensions,
) -> Result<(Ty<'a>, Types<'a>), Issue> {
    let variables = variables.iter().map(|v| (v.name.to_owned(), v.ty.clone()));
    let mut checker = Checker {
        variables: variables.collect(),
        extensions,
        types: Types::new(),
        formats: 0,
    };
    let found = checker.node(root)?;
    Ok((found, checker.types))
}

struct Checker<'a> {
    variables: Vec<(String, Ty<'a>)>,
    extensions: Extensions,
    types: Types<'a>,
    /// Within the arguments of `format` lists may hold what they like.
    formats: usize,
}

fn no_overload<'a>(at: usize, function: &str, args: &[Ty<'_>], method: bool) -> Checked<'a> {
    let names: Vec<String> = args.iter().map(Ty::name).collect();
    let applied = match (method, names.split_first()) {
        (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
        _ => format!("({})", names.join(", ")),
    };
    let why = format!("found no matching overload for '{function}' applied to '{applied}'");
    Err(Issue::new(at, why))
}

impl<'a> Checker<'a> {
    fn bool(&mut self, node: &Node, operator: &str) -> Result<(), Issue> {
        match self.node(node)? {
            Ty::Bool | Ty::Dyn | Ty::Free => Ok(()),
            other => no_overload(node.at, operator, &[other], false).map(drop),
        }
    }

    fn all(&mut self, nodes: &[Node]) -> Result<Vec<Ty<'a>>, Issue> {
        nodes.iter().map(|node| self.node(node)).collect()
    }

    fn node(&mut self, node: &Node) -> Checked<'a> {
        let found = self.expression(node)?;
        self.types.insert(node.id, found.clone());
        Ok(found)
    }

    fn expression(&mut self, node: &Node) -> Checked<'a> {
        match &node.expr {
            Expr::Literal(literal) => Ok(match literal {
                Literal::Null => Ty::Null,
                Literal::Bool(_) => Ty::Bool,
                Literal::Int(_) => Ty::Int,
                Literal::Uint(_) => Ty::Uint,
                Literal::Double(_) => Ty::Double,
                Literal::String(_) => Ty::String,
                Literal::Bytes(_) => Ty::Bytes,
            }),
            Expr::Ident(name) => {
                let found = self.variables.iter().rev().find(|(own, _)| own == name);
                match found {
                    Some((_, ty)) => Ok(ty.clone()),
                    None if functions::type_of_name(name).is_some() => Ok(Ty::Type),
                    None => {
                        let why = format!("undeclared reference to '{name}' (in container '')");
                        Err(Issue::new(node.at, why))
                    }
                }
            }
            Expr::Select(target, field, optional) => {
                if let Expr::Ident(space) = &target.expr
                    && let name = format!("{space}.{field}")
                    && let Some((_, ty)) = self.variables.iter().rev().find(|(own, _)| *own == name)
                {
                    return Ok(ty.clone());
                }
                let target = self.node(target)?;
                let found = self.field(node.at, target, field)?;
                Ok(match (optional, found) {
                    (true, found @ Ty::Optional(_)) | (false, found) => found,
                    (true, found) => Ty::Optional(Box::new(found)),
                })
            }
            Expr::Has(target, field) => {
                let target = self.node(target)?;
                self.field(node.at, target, field)?;
                Ok(Ty::Bool)
            }
            Expr::Index(target, index, optional) => {
                let (target, index) = (self.node(target)?, self.node(index)?);
                let found = self.index(node.at, target, &index)?;
                Ok(match (optional, found) {
                    (true, found @ Ty::Optional(_)) | (false, found) => found,
                    (true, found) => Ty::Optional(Box::new(found)),
                })
            }
            Expr::Not(inner) => self.bool(inner, "!_").map(|()| Ty::Bool),
            Expr::Negate(inner) => match self.node(inner)? {
                own @ (Ty::Int | Ty::Double | Ty::Duration | Ty::Dyn) => Ok(own),
                other => no_overload(node.at, "-_", &[other], false),
            },
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.node(left)?, self.node(right)?);
                binary(node.at, operator, left, right)
            }
            Expr::And(all) | Expr::Or(all) => {
                let operator = match node.expr {
                    Expr::And(_) => "_&&_",
                    _ => "_||_",
                };
                all.iter().try_for_each(|n| self.bool(n, operator))?;
                Ok(Ty::Bool)
            }
            Expr::If(all) => {
                self.bool(&all[0], "_?_:_")?;
                let (yes, no) = (self.node(&all[1])?, self.node(&all[2])?);
                match yes.join(&no) {
                    Some(joined) => Ok(joined),
                    None => no_overload(node.at, "_?_:_", &[Ty::Bool, yes, no], false),
                }
            }
            Expr::Call(name, args) => {
                let args = self.all(args)?;
                function(node.at, name, &args)
            }
            Expr::Method(target, name, args) => self.method(node.at, target, name, args),
            Expr::List(items) => {
                let mut of = Ty::Free;
                for (item, optional) in items {
                    of = self.entry(of, item, *optional)?;
                }
                Ok(Ty::List(Box::new(of)))
            }
            Expr::Map(items) => {
                let (mut keys, mut values) = (Ty::Free, Ty::Free);
                for (key, value, optional) in items {
                    keys = self.entry(keys, key, false)?;
                    values = self.entry(values, value, *optional)?;
                }
                Ok(Ty::Map(Box::new(keys), Box::new(values)))
            }
            Expr::Struct(name, fields) => self.made(node.at, name, fields),
            Expr::Over(kind, range, vars, body, made) => {
                self.over(*kind, range, vars, body, made.as_deref())
            }
            Expr::Bind(name, value, body) => {
                let value = self.node(value)?;
                self.with(vec![(name.clone(), value)], |c| c.node(body))
            }
            Expr::OptMap(target, name, body, flat) => {
                let inner = match self.node(target)? {
                    Ty::Optional(inner) => *inner,
                    Ty::Dyn | Ty::Free => Ty::Dyn,
                    other => return no_overload(node.at, "optMap", &[other], true),
                };
                let made = self.with(vec![(name.clone(), inner)], |c| c.node(body))?;
                Ok(if *flat {
                    made
                } else {
                    Ty::Optional(Box::new(made))
                })
            }
        }
    }

    /// One more element of a list or a map, whose elements are all of one type.
    fn entry(&mut self, before: Ty<'a>, item: &Node, optional: bool) -> Checked<'a> {
        let mut own = self.node(item)?;
        if optional {
            own = match own {
                Ty::Optional(inner) => *inner,
                own if own.is_dyn() => Ty::Dyn,
                own => return unexpected(item.at, &Ty::Optional(Box::new(before)), &own),
            };
        }
        match before.join(&own) {
            Some(joined) => Ok(joined),
            None if self.formats > 0 => Ok(Ty::Dyn),
            None => unexpected(item.at, &before, &own),
        }
    }

    /// An object of a named type. What the fields of an `Object` may hold is looked at when it is applied.
    fn made(&mut self, at: usize, name: &str, fields: &[(String, Node, bool)]) -> Checked<'a> {
        let is_object = name == "Object" || name.starts_with("Object.");
        if !self.extensions.patches || !(is_object || name == JSON_PATCH) {
            let why = format!("undeclared reference to '{name}' (in container '')");
            return Err(Issue::new(at, why));
        }
        for (field, value, optional) in fields {
            let wanted = match (is_object, field.as_str()) {
                (true, _) => Ty::Free,
                (false, field) => patch_field(field)
                    .ok_or_else(|| Issue::new(at, format!("undefined field '{field}'")))?,
            };
            let own = self.entry(Ty::Free, value, *optional)?;
            if !wanted.fits(&own) {
                let why = format!(
                    "expected type of field '{field}' is '{}' but provided type is '{}'",
                    wanted.name(),
                    own.name()
                );
                return Err(Issue::new(value.at, why));
            }
        }
        Ok(Ty::Made(name.into()))
    }

    fn with<T>(&mut self, own: Vec<(String, Ty<'a>)>, act: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.variables.len();
        self.variables.extend(own);
        let result = act(self);
        self.variables.truncate(length);
        result
    }

    fn field(&mut self, at: usize, target: Ty<'a>, field: &str) -> Checked<'a> {
        match target {
            Ty::Dyn | Ty::Free => Ok(Ty::Dyn),
            Ty::Made(name) => match &*name {
                JSON_PATCH => patch_field(field)
                    .ok_or_else(|| Issue::new(at, format!("undefined field '{field}'"))),
                _ => Ok(Ty::Dyn),
            },
            Ty::Optional(inner) => Ok(Ty::Optional(Box::new(self.field(at, *inner, field)?))),
            Ty::Map(_, value) => Ok(*value),
            Ty::Object(schema) if value::knows(schema, field) => {
                Ok(Ty::of(schema.child(&value::unescape(field))))
            }
            Ty::Fields(_, fields) => match fields.get(field) {
                Some(ty) => Ok(ty.clone()),
                None => Err(Issue::new(at, format!("undefined field '{field}'"))),
            },
            Ty::Object(_) => Err(Issue::new(at, format!("undefined field '{field}'"))),
            other => {
                let why = format!("type '{}' does not support field selection", other.name());
                Err(Issue::new(at, why))
            }
        }
    }

    fn index(&mut self, at: usize, target: Ty<'a>, index: &Ty<'a>) -> Checked<'a> {
        match target {
            Ty::Dyn | Ty::Free => Ok(Ty::Dyn),
            Ty::Optional(inner) => Ok(Ty::Optional(Box::new(self.index(at, *inner, index)?))),
            Ty::List(of) if index.is_dyn() || index.is_number() => Ok(*of),
            Ty::Map(_, of) => Ok(*of),
            Ty::Object(_) => Ok(Ty::Dyn),
            other => no_overload(at, "_[_]", &[other, index.clone()], false),
        }
    }

    fn over(
        &mut self,
        kind: Comprehension,
        range: &Node,
        vars: &[String],
        body: &Node,
        made: Option<&Node>,
    ) -> Checked<'a> {
        let own = self.node(range)?;
        let is_map = matches!(own, Ty::Map(..) | Ty::Object(_));
        let (key, value) = match own {
            Ty::List(of) => (Ty::Int, *of),
            Ty::Map(key, value) => (*key, *value),
            Ty::Object(_) => (Ty::String, Ty::Dyn),
            Ty::Dyn | Ty::Free => (Ty::Dyn, Ty::Dyn),
            other => {
                let why = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    other.name()
                );
                return Err(Issue::new(range.at, why));
            }
        };
        let own = match vars {
            [one] if is_map => vec![(one.clone(), key.clone())],
            [one] => vec![(one.clone(), value.clone())],
            [first, second, ..] => {
                vec![
                    (first.clone(), key.clone()),
                    (second.clone(), value.clone()),
                ]
            }
            [] => Vec::new(),
        };
        let element = if is_map { key.clone() } else { value };
        self.with(own, |c| {
            c.bool(body, "_&&_")?;
            let made = made.map(|m| c.node(m)).transpose()?;
            Ok(match kind {
                Comprehension::All | Comprehension::Exists | Comprehension::ExistsOne => Ty::Bool,
                Comprehension::Filter => Ty::List(Box::new(element)),
                Comprehension::Map => Ty::List(Box::new(made.unwrap_or(Ty::Dyn))),
                Comprehension::TransformMapEntry => match made {
                    Some(made @ Ty::Map(..)) => made,
                    _ => Ty::Map(Box::new(Ty::Dyn), Box::new(Ty::Dyn)),
                },
                Comprehension::TransformMap => {
                    Ty::Map(Box::new(key), Box::new(made.unwrap_or(Ty::Dyn)))
                }
            })
        })
    }

    fn method(&mut self, at: usize, target: &Node, name: &str, args: &[Node]) -> Checked<'a> {
        if let Expr::Ident(space) = &target.expr
            && functions::is_namespace(space)
            && !self.variables.iter().any(|(own, _)| own == space)
        {
            let whole = format!("{space}.{name}");
            if space == "jsonpatch" && !self.extensions.patches {
                let why = format!("undeclared reference to '{whole}' (in container '')");
                return Err(Issue::new(at, why));
            }
            let args = self.all(args)?;
            return function(at, &whole, &args);
        }
        let formats = usize::from(name == "format");
        self.formats += formats;
        let target = self.node(target)?;
        let args = self.all(args)?;
        self.formats -= formats;
        method(at, target, name, &args)
    }
}

/// The type of the operations of a JSON patch.
const JSON_PATCH: &str = "JSONPatch";

/// The type of a field of an operation of a JSON patch.
fn patch_field<'a>(name: &str) -> Option<Ty<'a>> {
    match name {
        "op" | "path" | "from" => Some(Ty::String),
        "value" => Some(Ty::Dyn),
        _ => None,
    }
}

fn unexpected<'a>(at: usize, wanted: &Ty<'_>, found: &Ty<'_>) -> Checked<'a> {
    let (wanted, found) = (wanted.name(), found.name());
    let why = format!("expected type '{wanted}' but found '{found}'");
    Err(Issue::new(at, why))
}
