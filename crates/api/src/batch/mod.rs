//! The group `batch`: work that ends.
//!
//! [`schedule`] and [`indexes`] are the two small languages of the group; controllers read them too.

pub mod cronjob;
pub mod indexes;
pub mod job;
pub mod schedule;

#[cfg(test)]
mod tests;
