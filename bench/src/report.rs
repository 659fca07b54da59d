//! Figures: on the terminal, and one JSON object a line.

use std::fmt;
use std::fs::File;
use std::io::Write;

use serde_json::{Map, Value, json};

/// Takes figures.
pub(crate) struct Report {
    json: Option<File>,
}

impl Report {
    pub(crate) fn new(json: Option<File>) -> Self {
        Self { json }
    }

    /// One figure with its unit.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str) -> anyhow::Result<()> {
        self.bounded(name, value, None, unit, None)
    }

    /// One figure beside that of somebody else, and beside what is promised of it.
    pub(crate) fn bounded(
        &mut self,
        name: &str,
        value: f64,
        peer: Option<f64>,
        unit: &str,
        verdict: Option<Verdict>,
    ) -> anyhow::Result<()> {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let rounded = round(value);
        let ratio = |peer: f64| (peer != 0.0).then(|| round(value / peer));
        let beside = peer.map(|peer| (round(peer), ratio(peer)));
        let mut line = format!("{name:44} {rounded:>12} {unit:8}");
        if let Some((peer, ratio)) = beside {
            line += &format!(" peer {peer:>12}");
            if let Some(ratio) = ratio {
                line += &format!(", ratio {ratio:<8}");
            }
        }
        if let Some(verdict) = &verdict {
            line += &format!(" {verdict}");
        }
        println!("{}", line.trim_end());
        let mut object = Map::new();
        object.insert("name".into(), name.into());
        object.insert("value".into(), json!(rounded));
        object.insert("unit".into(), unit.into());
        if let Some((peer, ratio)) = beside {
            object.insert("peer".into(), json!(peer));
            if let Some(ratio) = ratio {
                object.insert("ratio".into(), json!(ratio));
            }
        }
        if let Some(verdict) = verdict {
            object.insert("limit".into(), json!(round(verdict.limit)));
            object.insert("holds".into(), verdict.holds.into());
        }
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", Value::Object(object))?;
        }
        Ok(())
    }
}

/// What is promised of a figure, and whether it holds.
pub(crate) struct Verdict {
    /// In the figure's unit.
    pub(crate) limit: f64,
    pub(crate) holds: bool,
    /// On which side of the limit the figure should be.
    pub(crate) sign: &'static str,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = (self.limit * 10.0).round() / 10.0;
        let holds = if self.holds { "holds" } else { "MISSED" };
        write!(f, "{} {limit}: {holds}", self.sign)
    }
}

/// The middle one of an odd number of values, the upper of the two middle ones of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
