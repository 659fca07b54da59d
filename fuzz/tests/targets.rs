//! Each target over its corpus, over what an engine makes up, and over edited seeds.
//!
//! Plain, the engine is a random one and stops after a moment; under `cargo bolero test` (`cargo xtask fuzz`) it is one that
//! coverage guides. The corpus is small and written by hand, with what once was a fault.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Runs a target over its corpus, and gives that.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = fs::read_dir(&corpus).expect("every target has a corpus");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a readable corpus").path();
        fs::read(path).expect("a readable seed")
    };
    let seeds: Vec<Vec<u8>> = entries.map(read).collect();
    seeds.iter().for_each(|seed| fuzz_targets::run(name, seed));
    seeds
}

macro_rules! targets {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let seeds = seeds(stringify!($name));
                bolero::check!()
                    .with_max_len(4096)
                    .with_test_time(Duration::from_millis(500))
                    .for_each(|bytes| {
                        fuzz_targets::run(stringify!($name), bytes);
                        let near = fuzz_targets::edited(&seeds, bytes);
                        fuzz_targets::run(stringify!($name), &near);
                    });
            }
        )*
    };
}

targets! {
    decode_json
    decode_yaml
    decode_cbor
    decode_protobuf
    patch_json
    patch_strategic
    apply
    custom_schema
    labels
    fields
    json_path
    owned_fields
    quantity
    http_front
    cel
    cel_policy
}

#[test]
fn every_target_is_run() {
    let all: Vec<&str> = fuzz_targets::TARGETS
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(all, NAMES);
}
