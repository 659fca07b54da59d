//! Tests of pulling.
