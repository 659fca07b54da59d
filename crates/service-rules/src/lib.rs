//! service-rules.
