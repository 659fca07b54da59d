//! The kubelet against an API and a runtime that are made of maps.

mod api;
mod runtime;
mod serving;
mod story;
