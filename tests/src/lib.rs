//! Whole-cluster tests with real clients.
