//! Label selectors: the text form of query strings and the structured form of `LabelSelector`.
//!
//! Behaviour and wording: `k8s.io/apimachinery/pkg/labels`.

mod parse;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::field::{ErrorList, Path};
use crate::names;

/// How a requirement relates its key and its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `!key`
    DoesNotExist,
    /// `key=value`
    Equals,
    /// `key==value`
    DoubleEquals,
    /// `key in (a,b)`
    In,
    /// `key!=value`
    NotEquals,
    /// `key notin (a,b)`
    NotIn,
    /// `key`
    Exists,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// The key or a value is no label, or the count of values does not fit the operator; upstream's wording.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, String> {
        let mut errors = ErrorList::new();
        let key_messages = names::label_key(key);
        if !key_messages.is_empty() {
            errors.invalid(&Path::new("key"), key, key_messages.join("; "));
        }
        let path = Path::new("values");
        let shown = || Value::from(values.clone());
        let integers = |errors: &mut ErrorList| {
            for (i, value) in values.iter().enumerate() {
                if value.parse::<i64>().is_err() {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.invalid(&path.index(i), value.as_str(), why);
                }
            }
        };
        use Operator::{
            DoesNotExist, DoubleEquals, Equals, Exists, GreaterThan, In, LessThan, NotEquals, NotIn,
        };
        match (operator, values.len()) {
            (In | NotIn, 0) => {
                let why = "for 'in', 'notin' operators, values set can't be empty";
                errors.invalid(&path, shown(), why);
            }
            (Equals | DoubleEquals | NotEquals, n) if n != 1 => {
                let why = "exact-match compatibility requires one single value";
                errors.invalid(&path, shown(), why);
            }
            (Exists | DoesNotExist, 1..) => {
                let why = "values set must be empty for exists and does not exist";
                errors.invalid(&path, shown(), why);
            }
            (GreaterThan | LessThan, n) => {
                if n != 1 {
                    let why = "for 'Gt', 'Lt' operators, exactly one value is required";
                    errors.invalid(&path, shown(), why);
                }
                integers(&mut errors);
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.invalid(&path.index(i).key(key), value.as_str(), messages.join("; "));
            }
        }
        if errors.is_empty() {
            let key = key.to_owned();
            Ok(Self {
                key,
                operator,
                values,
            })
        } else {
            Err(errors.aggregate())
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The relation.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values in the order given.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether a label with this value (or none) meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|own| own == v);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(l, r)| l > r),
            Operator::LessThan => self.compare(value).is_some_and(|(l, r)| l < r),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        let left = value?.parse().ok()?;
        let right = self.values.first()?.parse().ok()?;
        Some((left, right))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let mut values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        match self.operator {
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// `None` selects nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self {
            requirements: Some(Vec::new()),
        }
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// A selector of these requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements: Some(requirements),
        }
    }

    /// Parses the form of query strings, `a=b,c in (d,e),!f,g>3`.
    ///
    /// # Errors
    /// Upstream's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self::new)
    }

    /// The selector that a `LabelSelector` means: an empty one selects everything.
    ///
    /// # Errors
    /// Upstream's message.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(
                key,
                Operator::Equals,
                vec![value.clone()],
            )?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// As [`Self::from_label_selector`]; none selects nothing.
    ///
    /// # Errors
    /// Upstream's message.
    pub fn from_optional(selector: Option<&LabelSelector>) -> Result<Self, String> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::from_label_selector)
    }

    /// A selector of exactly these pairs, unchecked; an empty map selects everything.
    pub fn from_map(map: &BTreeMap<String, String>) -> Self {
        let requirements = map.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        });
        Self {
            requirements: Some(requirements.collect()),
        }
    }

    /// The requirements; empty also when nothing is selected.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether nothing can be selected.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// Whether an object with these labels is selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|all| all.iter().all(|r| r.matches(label(&r.key))))
    }

    /// [`Self::matches`] on a map, as typed metadata holds labels.
    pub fn matches_map(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// The single value that a label must have, if the selector says so.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        let exact = |r: &&Requirement| {
            use Operator::{DoubleEquals, Equals, In};
            r.key == key && matches!(r.operator, Equals | DoubleEquals | In) && r.values.len() == 1
        };
        let found = self.requirements().iter().find(exact);
        found.map(|r| r.values[0].as_str())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements().iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
