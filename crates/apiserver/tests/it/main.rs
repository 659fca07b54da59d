//! The API server over the real store: the road seen from outside, in process and over TLS.

mod harness;

mod identity;
mod lists;
mod objects;
mod security;
mod services;
mod tls;
mod watches;
