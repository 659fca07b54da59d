//! Puts the functions that every start runs side by side in the program.
//!
//! The program holds everything that a cluster is made of, and what one start runs lies scattered over all of it. The kernel
//! maps code by 64 KiB, so a start once held 34 MiB of it for 4 MiB that ran. `crates/oxikube/layout.ld` tells the linker
//! which functions to put first; [`run`] makes that file new: it starts the program with a breakpoint at every function
//! ([`trace`]) and finds short patterns for those that were reached ([`patterns`]).
//!
//! A file that has become old does no harm: functions that it does not know lie where they would lie without it.

mod map;
mod patterns;
mod trace;

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;

use self::map::Function;
use self::patterns::Patterns;
use crate::{build, step};

const FILE: &str = "crates/oxikube/layout.ld";
const HEAD: &str = "\
/* The functions that every start runs, side by side: made by `cargo xtask layout`, used by `build.rs`. */
OVERWRITE_SECTIONS
{
  .text : {
";
const TAIL: &str = "  }\n}\n";

/// Which program is looked at.
#[derive(Args)]
pub(crate) struct Options {
    /// A directory with `oxikube`, the linker's map of it (`oxikube.map`) and `cluster-bench`; built when none is given.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Scenarios of `cluster-bench`: an API server's start and a few requests; then a cluster that is started, stopped and started
/// again, and a pod on it. What an API server takes lies together, so that one alone takes no more.
const RUNS: [(&str, &str); 2] = [
    (
        "API server",
        "api --only start,requests --objects 200 --seconds 1 --connections 4",
    ),
    ("cluster", "start --times 1"),
];

/// Makes the linker's file new.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let programs = match &options.programs {
        Some(programs) => programs.clone(),
        None => with_map()?,
    };
    let programs = programs.canonicalize()?;
    let program = programs.join("oxikube");
    let map = std::fs::read_to_string(programs.join("oxikube.map"))?;
    let mut functions = map::functions(&map)?;
    let bench = programs.join("cluster-bench").display().to_string();
    let mut text = String::new();
    for (what, scenario) in RUNS {
        step(&format!("cluster-bench {scenario}"));
        let mut command = vec![bench.clone(), "--oxikube".to_owned()];
        command.push(program.display().to_string());
        command.extend(scenario.split(' ').map(str::to_owned));
        let mut trace = trace::Trace::new(&program, &functions);
        trace.run(&command)?;
        let ran = trace.ran;
        let found = choose(what, &functions, &ran);
        text += &format!("    /* {what} */\n");
        text.extend(found.lines.iter().map(|line| format!("    {line}\n")));
        let mut taken = found.taken.into_iter().collect::<HashSet<_>>();
        let mut index = 0..;
        functions.retain(|_| !taken.remove(&index.next().expect("it has no end")));
    }
    std::fs::write(build::root().join(FILE), format!("{HEAD}{text}{TAIL}"))?;
    Ok(())
}

fn choose(what: &str, functions: &[Function], ran: &HashSet<u64>) -> Patterns {
    let seen = functions.iter().map(|function| {
        let ran = ran.contains(&function.address);
        (&*function.files, &*function.name, function.size, ran)
    });
    let all: u64 = seen.clone().filter(|seen| seen.3).map(|seen| seen.2).sum();
    let found = patterns::of(seen);
    println!(
        "{what}: {} functions ran, {} KiB; {} lines hold {} KiB of that and {} KiB that did not",
        ran.len(),
        all >> 10,
        found.lines.len(),
        found.ran >> 10,
        (found.all - found.ran) >> 10,
    );
    found
}

fn with_map() -> anyhow::Result<PathBuf> {
    let programs = build::release(&["cluster-bench"])?;
    let mut command = build::cargo();
    command.args(["rustc", "--locked", "--release", "--package", "oxikube"]);
    command.args(["--bin", "oxikube", "--", "-C"]);
    let map = programs.join("oxikube.map");
    command.arg(format!("link-arg=-Wl,-Map={}", map.display()));
    crate::run(&mut command)?;
    Ok(programs)
}
