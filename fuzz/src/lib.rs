//! What reads bytes that strangers send, as functions of bytes: none of them may panic, hang or take memory without bound.
//!
//! [`TARGETS`] is the table. `tests/targets.rs` runs each over its corpus (`corpus/<target>`) and over random bytes for a moment;
//! `cargo xtask fuzz` runs one for as long as you like, guided by coverage. Start with a target.

mod edit;
mod expressions;
mod objects;
mod texts;

pub use edit::edited;

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("decode_json", objects::decode_json),
    ("decode_yaml", objects::decode_yaml),
    ("decode_cbor", objects::decode_cbor),
    ("decode_protobuf", objects::decode_protobuf),
    ("patch_json", objects::patch_json),
    ("patch_strategic", objects::patch_strategic),
    ("apply", objects::apply),
    ("custom_schema", objects::custom_schema),
    ("labels", texts::labels),
    ("fields", texts::fields),
    ("json_path", texts::json_path),
    ("owned_fields", texts::owned_fields),
    ("quantity", texts::quantity),
    ("http_front", texts::http_front),
    ("cel", expressions::cel),
    ("cel_policy", expressions::cel_policy),
];

/// Runs one target on some bytes.
///
/// # Panics
/// There is no target of this name, or the target has found a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(own, _)| *own == name);
    let (_, target) = found.expect("a target of the table");
    target(bytes);
}
