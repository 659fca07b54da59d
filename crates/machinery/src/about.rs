//! What a component says of itself: `/statusz` and `/flagz`, as text for people or as an object of `config.k8s.io`.
//!
//! Behaviour: `k8s.io/apiserver/pkg/server/statusz` and `flagz` (KEP-4827, KEP-4828, on by default since v1.36).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::status::ApiError;
use crate::time::rfc3339;

/// The media types that there are, as refusals name them.
const SUPPORTED: &[&str] = &["application/json", "application/yaml", "text/plain"];
/// First segments of paths that are no help to who looks for the cause of something.
const NOT_FOR_DEBUGGING: &[&str] = &["apis", "api", "openid", "openapi", ".well-known"];

/// Flags by name, and their values.
pub type Flags = BTreeMap<String, String>;

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/statusz`
    Status,
    /// `/flagz`
    Flags,
}

/// What there is to say.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The component's name, as upstream's pages have it.
    pub component: &'a str,
    /// When its process began.
    pub started: Timestamp,
    /// The present.
    pub now: Timestamp,
    /// Every path that it serves.
    pub paths: &'a [String],
    /// Its command line, defaults included.
    pub flags: &'a Flags,
}

/// A page as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// `Content-Type`
    pub media_type: String,
    /// The whole header `Warning`, of versions that go.
    pub warning: Option<String>,
    /// What is sent.
    pub body: String,
}

/// The form that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    Text,
    Json(&'a str),
    Yaml(&'a str),
}

impl Page {
    /// The page at this path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/statusz" => Some(Self::Status),
            "/flagz" => Some(Self::Flags),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Status => "statusz",
            Self::Flags => "flagz",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Status => "Statusz",
            Self::Flags => "Flagz",
        }
    }

    /// The page for who accepts this; JSON is indented for people.
    pub fn answer(self, about: &About<'_>, accept: &str, pretty: bool) -> Answer {
        let Some(form) = self.choose(accept) else {
            let refusal = ApiError::not_acceptable(SUPPORTED);
            return Answer {
                code: refusal.code,
                media_type: "application/json".to_owned(),
                warning: None,
                body: encode(&refusal.to_status(), pretty),
            };
        };
        let (encoding, version) = match form {
            Form::Text => {
                return Answer {
                    code: 200,
                    media_type: "text/plain; charset=utf-8".to_owned(),
                    warning: None,
                    body: self.text(about),
                };
            }
            Form::Json(version) => ("json", version),
            Form::Yaml(version) => ("yaml", version),
        };
        let (kind, name) = (self.kind(), self.name());
        let object = self.object(about, version);
        let yaml = |object| crate::codec::encode_yaml(object).ok();
        Answer {
            code: 200,
            media_type: format!("application/{encoding};g=config.k8s.io;v={version};as={kind}"),
            warning: (version == "v1alpha1").then(|| {
                format!("299 - \"This version of the {name} endpoint is deprecated. Please use a newer version.\"")
            }),
            body: match encoding {
                "yaml" => yaml(&object).unwrap_or_default(),
                _ => encode(&object, pretty),
            },
        }
    }

    /// The best form that is accepted; `None`: there is none.
    fn choose(self, accept: &str) -> Option<Form<'_>> {
        if accept.trim().is_empty() {
            return Some(Form::Text);
        }
        let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).collect();
        clauses.sort_by(|a, b| {
            let by_quality = b.quality.total_cmp(&a.quality);
            by_quality.then(a.wildcards().cmp(&b.wildcards()))
        });
        clauses.iter().find_map(|clause| clause.form(self.kind()))
    }

    fn object(self, about: &About<'_>, version: &str) -> Value {
        let mut object = json!({
            "kind": self.kind(), "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": {"name": about.component},
        });
        match self {
            Self::Status => {
                object["startTime"] = rfc3339(about.started).into();
                object["uptimeSeconds"] = about.uptime().into();
                object["goVersion"] = "none".into();
                object["binaryVersion"] = "1.37.0".into();
                object["emulationVersion"] = "1.37".into();
                object["paths"] = json!(about.folders());
            }
            Self::Flags => object["flags"] = json!(about.flags),
        }
        object
    }

    fn text(self, about: &About<'_>) -> String {
        let (component, name) = (about.component, self.name());
        let mut out = format!(
            "\n{component} {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
             compatibility guarantees and is for debugging purposes only.\n"
        );
        match self {
            Self::Flags => {
                for (name, value) in about.flags {
                    out += &format!("{name}={value}\n");
                }
            }
            Self::Status => {
                let started = about.started.strftime("%a %b %e %H:%M:%S UTC %Y");
                let up = about.uptime();
                let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
                let paths = about.folders().join(" ");
                out += &format!(
                    "\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: none\n\
                     Binary version: 1.37.0\nEmulation version: 1.37\nPaths: {paths}\n"
                );
            }
        }
        out
    }
}

impl About<'_> {
    fn uptime(&self) -> i64 {
        (self.now.as_second() - self.started.as_second()).max(0)
    }

    /// The first segments of the paths.
    fn folders(&self) -> Vec<String> {
        let first = self.paths.iter().filter_map(|path| path.split('/').nth(1));
        let helpful = first.filter(|name| !name.is_empty() && !NOT_FOR_DEBUGGING.contains(name));
        let folders: BTreeSet<&str> = helpful.collect();
        folders.iter().map(|name| format!("/{name}")).collect()
    }
}

fn encode(value: &Value, pretty: bool) -> String {
    // A tree of JSON has no way to fail to encode.
    match pretty {
        true => serde_json::to_string_pretty(value).unwrap_or_default(),
        false => format!("{value}\n"),
    }
}

/// One media type of the header `Accept`.
struct Clause<'a> {
    media: &'a str,
    quality: f32,
    /// Parameters `g`, `v` and `as`.
    convert: [&'a str; 3],
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Self {
            media: parts.next().unwrap_or_default(),
            quality: 1.0,
            convert: [""; 3],
        };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim();
            match key.trim() {
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                "g" => clause.convert[0] = value,
                "v" => clause.convert[1] = value,
                "as" => clause.convert[2] = value,
                _ => {}
            }
        }
        clause
    }

    fn wildcards(&self) -> usize {
        self.media.matches('*').count()
    }

    fn form(&self, kind: &str) -> Option<Form<'a>> {
        let takes = |media: &str| {
            let (family, _) = media.split_once('/').unwrap_or((media, ""));
            self.media == media || self.media == "*/*" || self.media == format!("{family}/*")
        };
        let [group, version, wanted] = self.convert;
        let is_known =
            group == "config.k8s.io" && wanted == kind && matches!(version, "v1alpha1" | "v1beta1");
        let is_plain = self.convert == [""; 3];
        match () {
            () if is_known && takes("application/json") => Some(Form::Json(version)),
            () if is_known && takes("application/yaml") => Some(Form::Yaml(version)),
            () if is_plain && takes("text/plain") => Some(Form::Text),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests;
