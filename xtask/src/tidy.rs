//! Rules of the house that the compiler does not know: formatting, lints, and which crate may depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{build, run as run_command, step};

/// The house in layers, from the ground up. A crate may depend on crates of its own line only where `ALLOWED_ASIDE` says
/// so, and on crates of earlier lines.
const LAYERS: &[&[&str]] = &[
    // Vocabulary and the kernel's edges: they know no component.
    &[
        "machinery",
        "store",
        "store-reader",
        "etcd-api",
        "linux",
        "oci",
        "nft",
        "streaming",
        "cri",
        "token-signer",
    ],
    &[
        "api",
        "images",
        "volumes",
        "etcd-store",
        "etcd-serve",
        "store-encryption",
    ],
    // Brains.
    &[
        "access",
        "control",
        "scheduling",
        "pod-lifecycle",
        "service-rules",
        "overlay",
        "dns-answers",
    ],
    &["controllers", "client", "testkit", "store-proof"],
    // A brain over other brains, then outsides.
    &[
        "why",
        "apiserver",
        "driver",
        "runtime",
        "pod-network",
        "serving",
    ],
    &[
        "controller-manager",
        "scheduler",
        "kubelet",
        "service-proxy",
        "cluster-dns",
    ],
    &["oxikube"],
    &[
        "demo-app",
        "demo-images",
        "guestbook-demo",
        "operator-demo",
        "cluster-tests",
        "cluster-bench",
        "fuzz-targets",
        "xtask",
    ],
];
/// Pairs of one line that may depend on each other, first on second.
const ALLOWED_ASIDE: &[(&str, &str)] = &[
    ("guestbook-demo", "demo-images"),
    ("cluster-tests", "demo-images"),
    ("cluster-bench", "demo-images"),
];
/// Crates that decide: nothing that reaches the outside world may be among their dependencies.
const PURE: &[&str] = &[
    "machinery",
    "api",
    "access",
    "volumes",
    "control",
    "controllers",
    "scheduling",
    "oci",
    "pod-lifecycle",
    "service-rules",
    "overlay",
    "dns-answers",
    "why",
];
/// Crates of the field that reach the outside world.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "rand",
    "rustix",
    "nix",
    "kube",
    "rtnetlink",
    "reqwest",
];

/// What a brain must be given instead of taking it itself.
const REACHES_OUT: &[(&str, &str)] = &[
    ("Timestamp::now", "the caller gives the time"),
    ("SystemTime::now", "the caller gives the time"),
    ("Instant::now", "the caller gives the time"),
    ("std::env::var", "the caller gives settings"),
    ("std::fs", "the caller reads files"),
    ("std::net::Tcp", "the caller speaks to the network"),
    ("std::process", "the caller starts programs"),
    ("std::thread", "the caller has the threads"),
];

/// Checks all of them.
pub(crate) fn run() -> anyhow::Result<()> {
    step("checking formatting");
    run_command(build::cargo().args(["fmt", "--all", "--check"]))?;
    step("checking the crate graph");
    let problems = check_graph(&dependencies()?);
    if !problems.is_empty() {
        bail!(
            "the crate graph breaks the rules of the house:\n  {}",
            problems.join("\n  ")
        );
    }
    let impurities = impurities()?;
    if !impurities.is_empty() {
        bail!(
            "brains reach the outside world:\n  {}",
            impurities.join("\n  ")
        );
    }
    step("checking lints");
    run_command(build::cargo().args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The direct dependencies of every crate of the workspace, tests' own left out.
fn dependencies() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut command: Command = build::cargo();
    let output = command
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().context("no packages")?;
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        all.filter(|d| d["kind"].is_null())
            .map(|d| text(&d["name"]))
            .collect()
    };
    Ok(packages
        .iter()
        .map(|package| (text(&package["name"]), of(package)))
        .collect())
}

fn check_graph(dependencies: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    let floor = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for (name, used) in dependencies {
        let Some(own) = floor(name) else {
            problems.push(format!("{name} has no place in xtask/src/tidy.rs"));
            continue;
        };
        for other in used
            .iter()
            .filter(|other| dependencies.contains_key(*other))
        {
            let aside = ALLOWED_ASIDE.contains(&(name.as_str(), other.as_str()));
            if floor(other).is_some_and(|floor| floor >= own) && !aside {
                problems.push(format!("{name} must not depend on {other}"));
            }
        }
        if PURE.contains(&name.as_str()) {
            let impure = used.iter().filter(|other| IMPURE.contains(&other.as_str()));
            problems
                .extend(impure.map(|other| format!("{name} decides, so it must not use {other}")));
        }
    }
    problems
}

/// The places in brains, tests left out, that take what they must be given.
fn impurities() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for name in PURE {
        let mut folders = vec![build::root().join("crates").join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                let is_test = stem.is_some_and(|stem| stem.ends_with("tests"));
                if is_test {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path)?;
                for (number, line) in (1..).zip(text.lines()) {
                    let code = line.split("//").next().unwrap_or(line);
                    for (word, instead) in
                        REACHES_OUT.iter().filter(|(word, _)| code.contains(word))
                    {
                        let path = path.strip_prefix(build::root()).unwrap_or(&path).display();
                        found.push(format!("{path}:{number}: {word}: {instead}"));
                    }
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        edges
            .iter()
            .map(|(name, used)| ((*name).to_owned(), owned(used)))
            .collect()
    }

    #[test]
    fn an_arrow_that_turns_back_and_an_impure_brain_are_told() {
        let bad = graph(&[
            ("api", &["access", "tokio"]),
            ("access", &[]),
            ("stranger", &[]),
        ]);
        assert_eq!(
            check_graph(&bad),
            [
                "api must not depend on access",
                "api decides, so it must not use tokio",
                "stranger has no place in xtask/src/tidy.rs",
            ]
        );
    }

    #[test]
    fn brains_take_nothing_from_the_outside_world() {
        assert_eq!(impurities().expect("sources"), Vec::<String>::new());
    }

    #[test]
    fn the_house_as_it_stands_keeps_the_rules() {
        assert_eq!(
            check_graph(&dependencies().expect("cargo metadata")),
            Vec::<String>::new()
        );
    }
}
