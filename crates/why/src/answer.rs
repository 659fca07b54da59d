//! What is told, and how it looks on a screen.

use std::fmt;

/// More causes of one thing than this are counted, not told.
const SHOWN: usize = 5;

/// Why the subject is as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Kind, namespace and name.
    pub subject: String,
    /// The whole in one sentence.
    pub headline: String,
    /// What it comes from, the most important first.
    pub causes: Vec<Cause>,
    /// What could not be read, with the reason; the answer may lack something.
    pub unread: Vec<String>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// What it is, in one sentence.
    pub what: String,
    /// What components and users wrote about it, word for word.
    pub details: Vec<String>,
    /// What to do about it.
    pub advice: Option<String>,
    /// What it comes from.
    pub causes: Vec<Cause>,
}

impl Answer {
    /// An answer with this headline.
    pub(crate) fn new(headline: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self {
            headline: headline.into(),
            causes,
            ..Self::default()
        }
    }
}

impl Cause {
    /// A cause that is told in one sentence.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ..Self::default()
        }
    }

    /// With words of somebody else.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        if !detail.is_empty() && !self.details.contains(&detail) {
            self.details.push(detail);
        }
        self
    }

    /// With what to do.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// With what it comes from.
    pub(crate) fn from(mut self, causes: impl IntoIterator<Item = Cause>) -> Self {
        self.causes.extend(causes);
        self
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        writeln!(f, "{indent}- {}", self.what)?;
        for detail in &self.details {
            for line in detail.lines() {
                writeln!(f, "{indent}    {line}")?;
            }
        }
        if let Some(advice) = &self.advice {
            writeln!(f, "{indent}  > {advice}")?;
        }
        write_all(f, &self.causes, depth + 1)
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, causes: &[Cause], depth: usize) -> fmt::Result {
    for cause in causes.iter().take(SHOWN) {
        cause.write(f, depth)?;
    }
    match causes.len().checked_sub(SHOWN) {
        Some(more @ 1..) => writeln!(f, "{}- and {more} more", "  ".repeat(depth)),
        _ => Ok(()),
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.subject, self.headline)?;
        write_all(f, &self.causes, 0)?;
        for unread in &self.unread {
            writeln!(f, "not seen: {unread}")?;
        }
        Ok(())
    }
}
