//! Figures: on the terminal, and one JSON object a line.

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
        self.compared(name, value, None, unit)
    }

    /// The same, beside that of somebody else.
    pub(crate) fn compared(
        &mut self,
        name: &str,
        value: f64,
        peer: Option<f64>,
        unit: &str,
    ) -> anyhow::Result<()> {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let rounded = round(value);
        let beside = peer.map(|peer| (round(peer), round(value / peer)));
        match beside {
            None => println!("{name:44} {rounded:>12} {unit}"),
            Some((peer, ratio)) => {
                println!("{name:44} {rounded:>12} {unit:8} peer {peer:>12}, ratio {ratio}");
            }
        }
        let mut object = Map::new();
        object.insert("name".into(), name.into());
        object.insert("value".into(), json!(rounded));
        object.insert("unit".into(), unit.into());
        if let Some((peer, ratio)) = beside {
            object.insert("peer".into(), json!(peer));
            object.insert("ratio".into(), json!(ratio));
        }
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", Value::Object(object))?;
        }
        Ok(())
    }
}

/// The middle one of an odd number of values, the upper of the two middle ones of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
