//! How components reach the API: a client over TLS or inside the process, caches fed by one watch, events, leases.
//!
//! The client itself is [`kube::Client`]; this crate only makes it ([`connect`]) and adds what every component needs
//! around it: [`watch`], [`events`], [`lease`], [`election`], [`services`], [`requests`]. It knows no component and takes no decision.

pub mod connect;
pub mod election;
pub mod events;
pub mod lease;
pub mod requests;
pub mod services;
pub mod watch;

pub use kube::{Api, Client};
