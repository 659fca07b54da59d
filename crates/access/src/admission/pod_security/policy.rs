//! What a namespace asks for: a level and a version for each of three modes, said by labels.
//!
//! Behaviour: `k8s.io/pod-security-admission/api`.

use std::fmt;

use machinery::{ErrorList, Object, Path};

/// The label of the enforced level; its version's has `-version` behind it.
pub(super) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
pub(super) const AUDIT: &str = "pod-security.kubernetes.io/audit";
pub(super) const WARN: &str = "pod-security.kubernetes.io/warn";

/// How strict it is; later ones are stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is allowed.
    #[default]
    Privileged,
    /// Known ways to gain privileges are closed.
    Baseline,
    /// Current hardening practice.
    Restricted,
}

impl Level {
    /// Reads a name.
    ///
    /// # Errors
    /// Which names there are.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// The release of Kubernetes whose checks count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// This one.
    #[default]
    Latest,
    /// `v1.` and this.
    Minor(u32),
}

impl Version {
    /// Reads `latest` or `v1.x`.
    ///
    /// # Errors
    /// What it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = r#"must be "latest" or "v1.x""#;
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(WRONG)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        match digits.parse() {
            Ok(minor) if plain => Ok(Self::Minor(minor)),
            _ => Err(WRONG),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// A level as a release understands it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The release.
    pub version: Version,
}

impl LevelVersion {
    /// Both allow the same: of `privileged` there is one only.
    fn is_like(&self, other: &Self) -> bool {
        let privileged = |it: &Self| it.level == Level::Privileged;
        self == other || (privileged(self) && privileged(other))
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What is refused, what is noted in the audit log, and what its author is warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that do not comply are refused.
    pub enforce: LevelVersion,
    /// They are noted.
    pub audit: LevelVersion,
    /// Who makes them is told.
    pub warn: LevelVersion,
}

impl Policy {
    /// Nothing is refused, noted or told.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|it| it.level == Level::Privileged)
    }

    /// Both mean the same in every mode.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.enforce.is_like(&other.enforce)
            && self.audit.is_like(&other.audit)
            && self.warn.is_like(&other.warn)
    }

    /// The policy of a namespace, and what is wrong with its labels. Of a wrong level the strictest is enforced, none
    /// audited or warned of.
    pub(super) fn of(namespace: &Object, defaults: &Self) -> (Self, ErrorList) {
        let mut policy = *defaults;
        let mut errors = ErrorList::new();
        let enforce = read(
            namespace,
            ENFORCE,
            &mut policy.enforce,
            Level::Restricted,
            &mut errors,
        );
        read(
            namespace,
            AUDIT,
            &mut policy.audit,
            Level::Privileged,
            &mut errors,
        );
        let warn = read(
            namespace,
            WARN,
            &mut policy.warn,
            Level::Privileged,
            &mut errors,
        );
        let stricter = enforce == Some(true) && policy.enforce.level > policy.warn.level;
        if warn.is_none() && stricter {
            policy.warn.level = policy.enforce.level;
            if namespace.label(&format!("{WARN}-version")).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// Reads the labels of one mode; whether there is a level, and whether it is one.
fn read(
    namespace: &Object,
    mode: &str,
    into: &mut LevelVersion,
    wrong: Level,
    errors: &mut ErrorList,
) -> Option<bool> {
    let labels = Path::new("metadata").child("labels");
    let mut good = None;
    if let Some(given) = namespace.label(mode) {
        let level = Level::parse(given);
        good = Some(level.is_ok());
        into.level = level.unwrap_or_else(|why| {
            errors.invalid(&labels.key(mode), given, why);
            wrong
        });
    }
    let mode = format!("{mode}-version");
    if let Some(given) = namespace.label(&mode) {
        into.version = Version::parse(given).unwrap_or_else(|why| {
            errors.invalid(&labels.key(&mode), given, why);
            Version::Latest
        });
    }
    good
}
