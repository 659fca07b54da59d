//! What came of a run: read from ginkgo's report, told as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// How many of the slowest tests are shown.
const SLOWEST: usize = 10;

/// A test that ran.
struct Test {
    name: String,
    passed: bool,
    seconds: f64,
    /// The first line of why it failed.
    why: String,
}

/// All tests that ran.
pub(super) struct Report {
    tests: Vec<Test>,
    /// What failed outside of any test, such as the suite's own preparation.
    outside: Vec<String>,
}

impl Report {
    /// Reads ginkgo's JSON report.
    ///
    /// # Errors
    /// There is none, or it is something else.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string(file)?)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let suites: Value = serde_json::from_str(text).context("the report is no JSON")?;
        let mut report = Self {
            tests: Vec::new(),
            outside: Vec::new(),
        };
        for suite in suites.as_array().context("the report is no list")? {
            for spec in suite["SpecReports"].as_array().into_iter().flatten() {
                report.add(spec);
            }
        }
        report.tests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(report)
    }

    fn add(&mut self, spec: &Value) {
        let state = spec["State"].as_str().unwrap_or_default();
        if matches!(state, "skipped" | "pending") {
            return;
        }
        let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
        let why = first_line(message);
        let passed = state == "passed";
        if spec["LeafNodeType"] != "It" {
            if !passed {
                let kind = spec["LeafNodeType"].as_str().unwrap_or_default();
                self.outside.push(format!("{kind}: {why}"));
            }
            return;
        }
        let containers = spec["ContainerHierarchyTexts"].as_array();
        let mut words: Vec<&str> = containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        words.extend(spec["LeafNodeText"].as_str());
        self.tests.push(Test {
            name: words.join(" "),
            passed,
            // Nanoseconds; the report is exact to far less than a float keeps.
            seconds: spec["RunTime"].as_f64().unwrap_or_default() / 1e9,
            why,
        });
    }

    /// Passed and failed a group, the slowest, and the first line of each failure.
    pub(super) fn table(&self) -> String {
        let mut groups: BTreeMap<&str, (usize, usize, f64)> = BTreeMap::new();
        for test in &self.tests {
            let group = groups.entry(group(&test.name)).or_default();
            match test.passed {
                true => group.0 += 1,
                false => group.1 += 1,
            }
            group.2 += test.seconds;
        }
        let mut table = format!(
            "\n{:<32} {:>6} {:>6} {:>9}\n",
            "GROUP", "PASSED", "FAILED", "SECONDS"
        );
        for (name, (passed, failed, seconds)) in &groups {
            let _ = writeln!(table, "{name:<32} {passed:>6} {failed:>6} {seconds:>9.1}");
        }
        let failed = self.tests.iter().filter(|test| !test.passed).count();
        let seconds: f64 = self.tests.iter().map(|test| test.seconds).sum();
        let passed = self.tests.len() - failed;
        let _ = writeln!(
            table,
            "{:<32} {passed:>6} {failed:>6} {seconds:>9.1}",
            "all"
        );
        let mut slowest: Vec<&Test> = self.tests.iter().collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let _ = writeln!(table, "\nslowest:");
        for test in slowest.iter().take(SLOWEST) {
            let _ = writeln!(table, "{:>8.1} s  {}", test.seconds, test.name);
        }
        if failed > 0 || !self.outside.is_empty() {
            let _ = writeln!(table, "\nfailed:");
        }
        for test in self.tests.iter().filter(|test| !test.passed) {
            let _ = writeln!(table, "  {}\n      {}", test.name, test.why);
        }
        for what in &self.outside {
            let _ = writeln!(table, "  {what}");
        }
        table
    }

    /// One JSON object a test.
    pub(super) fn json_lines(&self) -> String {
        let mut lines = String::new();
        for test in &self.tests {
            let line = json!({
                "name": test.name, "value": test.seconds, "unit": "s", "passed": test.passed, "why": test.why,
            });
            let _ = writeln!(lines, "{line}");
        }
        lines
    }

    /// Whether the run may count as passed, or why not.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let failed = self.tests.iter().filter(|test| !test.passed).count();
        match (self.tests.len(), failed, self.outside.is_empty()) {
            (0, ..) => Err(
                "no test ran: see the suite's output, and what --focus and --skip leave".to_owned(),
            ),
            (_, 0, true) => Ok(()),
            (all, 0, false) => Err(format!(
                "all {all} tests passed, but the suite itself failed"
            )),
            (all, failed, _) => Err(format!("{failed} of {all} tests failed")),
        }
    }
}

/// The words in the first brackets of a test's name: the group of people that keep it.
fn group(name: &str) -> &str {
    let inside = name
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or("others", |(group, _)| group)
}

/// The first line that says something.
fn first_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Report;

    fn report(specs: serde_json::Value) -> Report {
        Report::parse(&json!([{ "SpecReports": specs }]).to_string()).expect("a report")
    }

    #[test]
    fn a_report_tells_what_passed_and_why_not() {
        let it = |name: &str, state: &str, why: &str| {
            json!({
                "ContainerHierarchyTexts": ["[sig-auth] Tokens"], "LeafNodeType": "It", "LeafNodeText": name,
                "State": state, "RunTime": 1_500_000_000, "Failure": { "Message": why },
            })
        };
        let report = report(json!([
            it("work", "passed", ""),
            it("end", "failed", "\n  no end\nof it"),
            it("sleep", "skipped", ""),
        ]));
        let table = report.table();
        assert!(
            table.contains("sig-auth                              1      1       3.0"),
            "{table}"
        );
        assert!(
            table.contains("[sig-auth] Tokens end\n      no end\n"),
            "{table}"
        );
        assert_eq!(report.verdict(), Err("1 of 2 tests failed".to_owned()));
        assert_eq!(report.json_lines().lines().count(), 2);
    }

    #[test]
    fn nothing_that_ran_is_no_success() {
        let report = report(json!([]));
        assert!(
            report
                .verdict()
                .is_err_and(|why| why.starts_with("no test ran"))
        );
    }
}
