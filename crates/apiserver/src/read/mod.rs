//! Reads: one object, a list, a watch.

mod converted;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod options;
mod page;
mod stream;
pub(crate) mod watch;
