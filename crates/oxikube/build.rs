//! Has the linker put the functions that every start runs side by side, see `layout.ld`.
//!
//! Only lld can, which is what Rust links with on x86-64 Linux; with any other linker the program is as it would be without.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=layout.ld");
    let directory = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"));
    // A copy stays where the program is built, whichever checkout it is built from the next time.
    let kept = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says it")).join("layout.ld");
    std::fs::copy(directory.join("layout.ld"), &kept).expect("the layout can be copied");
    let option = format!("-Wl,-T,{}", kept.display());
    // Builds for development shall link fast.
    let optimized = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if optimized && links_with(&option) {
        println!("cargo:rustc-link-arg-bins={option}");
    }
}

/// Whether a program can be linked with this option.
fn links_with(option: &str) -> bool {
    let variable = |name: &str| env::var(name).ok();
    let (Some(rustc), Some(target), Some(out)) =
        (variable("RUSTC"), variable("TARGET"), variable("OUT_DIR"))
    else {
        return false;
    };
    let source = Path::new(&out).join("probe.rs");
    if std::fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut command = Command::new(rustc);
    command.arg(&source).args(["--target", &target]);
    command.args(["--out-dir", &out, "-C"]);
    command.arg(format!("link-arg={option}"));
    if let Some(linker) = variable("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    command.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
