//! The oxikube binary.
fn main() {}
