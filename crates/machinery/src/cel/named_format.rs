//! Formats of texts, as the library `kubernetes.format` names and checks them.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/cel/library/format.go`.

use crate::names;
use crate::structural::has_format;

/// A format of texts.
#[derive(Debug)]
pub struct NamedFormat {
    name: &'static str,
    /// The length of the regular expression that stands for it when costs are counted.
    pub(super) size: usize,
    check: fn(&str) -> Vec<String>,
}

impl PartialEq for NamedFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A prefix of generated names may end in a dash.
fn prefix(check: fn(&str) -> Vec<String>, text: &str) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(rest) if text.len() > 1 => {
            let mut shorter = rest.to_owned();
            shorter.pop();
            shorter.push('a');
            check(&shorter)
        }
        _ => check(text),
    }
}

fn known(format: &str, text: &str, why: &str) -> Vec<String> {
    match has_format(format, text) {
        true => Vec::new(),
        false => vec![why.to_owned()],
    }
}

static FORMATS: &[NamedFormat] = &[
    NamedFormat {
        name: "dns1123Label",
        size: 30,
        check: names::dns1123_label,
    },
    NamedFormat {
        name: "dns1123Subdomain",
        size: 60,
        check: names::dns1123_subdomain,
    },
    NamedFormat {
        name: "dns1035Label",
        size: 30,
        check: names::dns1035_label,
    },
    NamedFormat {
        name: "qualifiedName",
        size: 60,
        check: names::qualified_name,
    },
    NamedFormat {
        name: "dns1123LabelPrefix",
        size: 30,
        check: |text| prefix(names::dns1123_label, text),
    },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        size: 60,
        check: |text| prefix(names::dns1123_subdomain, text),
    },
    NamedFormat {
        name: "dns1035LabelPrefix",
        size: 30,
        check: |text| prefix(names::dns1035_label, text),
    },
    NamedFormat {
        name: "labelValue",
        size: 40,
        check: names::label_value,
    },
    NamedFormat {
        name: "uri",
        size: 1103,
        check: |text| {
            let why = || vec![format!("parse {text:?}: invalid URI for request")];
            match has_format("uri", text) {
                true => Vec::new(),
                false => why(),
            }
        },
    },
    NamedFormat {
        name: "uuid",
        size: 94,
        check: |text| known("uuid", text, "does not match the UUID format"),
    },
    NamedFormat {
        name: "byte",
        size: 84,
        check: |text| known("byte", text, "invalid base64"),
    },
    NamedFormat {
        name: "date",
        size: 156,
        check: |text| known("date", text, "invalid date"),
    },
    NamedFormat {
        name: "datetime",
        size: 156,
        check: |text| known("date-time", text, "invalid datetime"),
    },
];

/// The format of a name.
pub(super) fn find(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|format| format.name == name)
}

impl NamedFormat {
    /// What is wrong with a text.
    pub(super) fn problems(&self, text: &str) -> Vec<String> {
        (self.check)(text)
    }
}
