//! pod-lifecycle.
