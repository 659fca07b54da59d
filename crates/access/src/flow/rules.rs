//! Flow schemas: which requests belong to which flow.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/rule.go`.

use machinery::Object;
use serde_json::Value;

use crate::User;

/// What schemas look at.
#[derive(Clone, Copy)]
pub struct Digest<'a> {
    /// Who asks.
    pub user: &'a User,
    /// The verb of authorization.
    pub verb: &'a str,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// The path, for what is no resource.
    pub path: &'a str,
    /// The group.
    pub group: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// The sub-resource, empty for none.
    pub subresource: &'a str,
    /// The namespace, empty for none.
    pub namespace: &'a str,
}

/// A flow schema.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The name of the level that its requests go to.
    pub level: String,
    precedence: i64,
    distinguisher: Option<Distinguisher>,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
enum Distinguisher {
    User,
    Namespace,
}

#[derive(Clone, Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, Debug)]
enum Subject {
    Anybody,
    User(String),
    Group(String),
    /// Whose names begin like this: all service accounts of a namespace.
    Prefix(String),
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: List,
    groups: List,
    resources: List,
    namespaces: List,
    cluster_scope: bool,
}

#[derive(Clone, Debug)]
struct PathRule {
    verbs: List,
    paths: Vec<String>,
}

/// A list of words, or all there are.
#[derive(Clone, Debug)]
enum List {
    All,
    Of(Vec<String>),
}

impl List {
    fn read(value: &Value) -> Self {
        let words = value.as_array().into_iter().flatten();
        let words: Vec<String> = words.filter_map(Value::as_str).map(str::to_owned).collect();
        match words.as_slice() {
            [all] if all == "*" => Self::All,
            _ => Self::Of(words),
        }
    }

    fn has(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(words) => words.iter().any(|w| w == word),
        }
    }

    /// The same for a resource with a sub-resource.
    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(words) if subresource.is_empty() => words.iter().any(|w| w == resource),
            Self::Of(words) => words.iter().any(|w| {
                w.strip_prefix(resource)
                    .and_then(|rest| rest.strip_prefix('/'))
                    == Some(subresource)
            }),
        }
    }
}

impl Subject {
    fn read(value: &Value) -> Option<Self> {
        let text = |part: &str, field: &str| value[part][field].as_str().map(str::to_owned);
        Some(match value["kind"].as_str()? {
            "User" => match text("user", "name")? {
                all if all == "*" => Self::Anybody,
                name => Self::User(name),
            },
            "Group" => match text("group", "name")? {
                all if all == "*" => Self::Anybody,
                name => Self::Group(name),
            },
            "ServiceAccount" => {
                let namespace = text("serviceAccount", "namespace")?;
                let prefix = format!("system:serviceaccount:{namespace}:");
                match text("serviceAccount", "name")? {
                    all if all == "*" => Self::Prefix(prefix),
                    name => Self::User(prefix + &name),
                }
            }
            _ => return None,
        })
    }

    fn fits(&self, user: &User) -> bool {
        match self {
            Self::Anybody => true,
            Self::User(name) => user.name == *name,
            Self::Group(name) => user.groups.iter().any(|g| g == name),
            Self::Prefix(prefix) => user.name.starts_with(prefix.as_str()),
        }
    }
}

impl Rule {
    fn read(value: &Value) -> Self {
        let list = |field: &str| value[field].as_array().into_iter().flatten();
        Self {
            subjects: list("subjects").filter_map(Subject::read).collect(),
            resources: list("resourceRules")
                .map(|rule| ResourceRule {
                    verbs: List::read(&rule["verbs"]),
                    groups: List::read(&rule["apiGroups"]),
                    resources: List::read(&rule["resources"]),
                    namespaces: List::read(&rule["namespaces"]),
                    cluster_scope: rule["clusterScope"] == Value::Bool(true),
                })
                .collect(),
            paths: list("nonResourceRules")
                .map(|rule| PathRule {
                    verbs: List::read(&rule["verbs"]),
                    paths: match List::read(&rule["nonResourceURLs"]) {
                        List::All => vec!["*".to_owned()],
                        List::Of(paths) => paths,
                    },
                })
                .collect(),
        }
    }

    fn fits(&self, digest: &Digest<'_>) -> bool {
        if !self.subjects.iter().any(|s| s.fits(digest.user)) {
            return false;
        }
        match digest.is_resource {
            true => self.resources.iter().any(|r| r.fits(digest)),
            false => self.paths.iter().any(|r| r.fits(digest)),
        }
    }
}

impl ResourceRule {
    fn fits(&self, digest: &Digest<'_>) -> bool {
        self.verbs.has(digest.verb)
            && (self.resources).has_resource(digest.resource, digest.subresource)
            && self.groups.has(digest.group)
            && match digest.namespace {
                "" => self.cluster_scope,
                namespace => self.namespaces.has(namespace),
            }
    }
}

impl PathRule {
    fn fits(&self, digest: &Digest<'_>) -> bool {
        let fits = |path: &String| {
            if path == "*" || path == digest.path {
                return true;
            }
            let prefix = path.strip_suffix('*').unwrap_or(path);
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let rest = digest.path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        self.verbs.has(digest.verb) && self.paths.iter().any(fits)
    }
}

impl Schema {
    /// Reads a FlowSchema.
    pub fn read(object: &Object) -> Self {
        let spec = object.at(&["spec"]).unwrap_or(&Value::Null);
        let distinguisher = match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Some(Distinguisher::User),
            Some("ByNamespace") => Some(Distinguisher::Namespace),
            _ => None,
        };
        let rules = spec["rules"].as_array().into_iter().flatten();
        let level = spec["priorityLevelConfiguration"]["name"].as_str();
        Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            level: level.unwrap_or("").to_owned(),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            distinguisher,
            rules: rules.map(Rule::read).collect(),
        }
    }

    /// The order in which schemas are tried.
    pub fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    /// Whether a request belongs here.
    pub fn fits(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.fits(digest))
    }

    /// What tells the flows of this schema apart.
    pub fn distinguisher<'a>(&self, digest: &Digest<'a>) -> &'a str {
        match self.distinguisher {
            None => "",
            Some(Distinguisher::User) => &digest.user.name,
            Some(Distinguisher::Namespace) => digest.namespace,
        }
    }
}
