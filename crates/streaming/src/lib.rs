//! streaming.
