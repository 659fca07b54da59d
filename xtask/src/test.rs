//! Every test of the project.

use crate::{build, install, step, tidy};

/// Runs all tests, or those whose name contains the filter.
pub(crate) fn run(filter: Option<&str>) -> anyhow::Result<()> {
    install::packages(install::BUILD)?;
    install::packages(install::TEST)?;
    let tools = install::tools()?;
    if filter.is_none() {
        tidy::run()?;
    }
    step("building");
    let built = build::debug(&["oxikube", "demo-app", "guestbook-demo", "operator-demo"])?;
    step("testing");
    let mut command = build::cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    command
        .env("OXIKUBE_TEST_PROGRAMS", &built)
        .env("OXIKUBE_TEST_TOOLS", &tools);
    if let Some(filter) = filter {
        command.arg(filter);
    }
    crate::run(&mut command)
}
