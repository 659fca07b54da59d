//! The pages at `/healthz`, `/livez` and `/readyz`, and what becomes of their checks over time (`/metrics/slis`).
//!
//! Behaviour: `k8s.io/apiserver/pkg/server/healthz`, `k8s.io/component-base/metrics/prometheus/slis`.

use std::collections::BTreeMap;

use crate::metrics::{head, line};

/// What came of a check: nothing is wrong, or this.
pub type Outcome = Result<(), String>;

/// What was asked of a page.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Names of checks that do not count.
    pub exclude: Vec<String>,
    /// Everything is told; when something is wrong it always is.
    pub verbose: bool,
}

impl Asked {
    /// Whether a check is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|excluded| excluded == name)
    }
}

/// The page `kind` (`healthz`, `livez`, `readyz`): whether all is well, and the text. `None`: the check was left out.
pub fn page(kind: &str, asked: &Asked, outcomes: &[(&str, Option<Outcome>)]) -> (bool, String) {
    let (mut lines, mut well) = (String::new(), true);
    for (name, outcome) in outcomes {
        lines += &match outcome {
            None => format!("[+]{name} excluded: ok\n"),
            Some(Ok(())) => format!("[+]{name} ok\n"),
            Some(Err(_)) => {
                well = false;
                // The page is open to everybody; whoever may know why reads the log.
                format!("[-]{name} failed: reason withheld\n")
            }
        };
    }
    let is_known = |name: &String| outcomes.iter().any(|(known, _)| known == name);
    let mut unknown: Vec<&String> = asked.exclude.iter().filter(|n| !is_known(n)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        lines += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    match (well, asked.verbose) {
        (true, false) => (true, "ok".to_owned()),
        (true, true) => (true, format!("{lines}{kind} check passed\n")),
        (false, _) => (false, format!("{lines}{kind} check failed\n")),
    }
}

/// What one check has given so far.
#[derive(Debug, Default)]
struct Record {
    holds: bool,
    /// Failures and successes.
    counts: [u64; 2],
}

/// What all checks have given so far.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<(String, String), Record>);

impl Records {
    /// A page was made of these.
    pub fn note(&mut self, kind: &str, outcomes: &[(&str, Option<Outcome>)]) {
        for (name, outcome) in outcomes {
            let Some(outcome) = outcome else { continue };
            let record = self.0.entry(((*name).to_owned(), kind.to_owned()));
            let record = record.or_default();
            record.holds = outcome.is_ok();
            record.counts[usize::from(record.holds)] += 1;
        }
    }

    /// The page at `/metrics/slis`.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if self.0.is_empty() {
            return out;
        }
        let name = "kubernetes_healthcheck";
        let help = "This metric records the result of a single healthcheck.";
        head(&mut out, name, "gauge", "STABLE", help);
        for ((check, kind), record) in &self.0 {
            let labels = format!("name=\"{check}\",type=\"{kind}\"");
            line(&mut out, name, &labels, u8::from(record.holds));
        }
        let name = "kubernetes_healthchecks_total";
        let help = "This metric records the results of all healthcheck.";
        head(&mut out, name, "counter", "STABLE", help);
        for ((check, kind), record) in &self.0 {
            for (status, count) in ["error", "success"].iter().zip(record.counts) {
                if count > 0 {
                    let labels = format!("name=\"{check}\",status=\"{status}\",type=\"{kind}\"");
                    line(&mut out, name, &labels, count);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_what_failed_and_what_cannot_be_left_out() {
        let asked = Asked {
            exclude: vec!["etcd".into(), "b".into(), "a".into()],
            verbose: false,
        };
        let failed = Err("disk is full".to_owned());
        let outcomes = [
            ("ping", Some(Ok(()))),
            ("etcd", None),
            ("log", Some(failed)),
        ];
        let (well, text) = page("livez", &asked, &outcomes);
        assert!(!well);
        expect_test::expect![[r#"
            [+]ping ok
            [+]etcd excluded: ok
            [-]log failed: reason withheld
            warn: some health checks cannot be excluded: no matches for "a","b"
            livez check failed
        "#]]
        .assert_eq(&text);
        let (well, text) = page("livez", &Asked::default(), &outcomes[..1]);
        assert_eq!((well, text.as_str()), (true, "ok"));
        let mut records = Records::default();
        records.note("livez", &outcomes);
        records.note("livez", &outcomes[..1]);
        expect_test::expect![[r#"
            # HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.
            # TYPE kubernetes_healthcheck gauge
            kubernetes_healthcheck{name="log",type="livez"} 0
            kubernetes_healthcheck{name="ping",type="livez"} 1
            # HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.
            # TYPE kubernetes_healthchecks_total counter
            kubernetes_healthchecks_total{name="log",status="error",type="livez"} 1
            kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2
        "#]]
        .assert_eq(&records.render());
    }
}
