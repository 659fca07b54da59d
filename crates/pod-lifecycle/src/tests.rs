//! Stories of pods: YAML in, plans and statuses out, on a clock of our own.

mod laws;
mod lifecycle;
mod parts;
mod world;
