//! The shim as a program, for the tests of this crate: `oxikube shim` does the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::shim::main(std::env::args_os().skip(1))
}
