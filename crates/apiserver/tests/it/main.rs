//! The API server over the real store: the road seen from outside, in process and over TLS.

mod about;
mod aggregation;
mod audit;
mod authentication;
mod authorization;
mod client;
mod components;
mod consistency;
mod conversion;
mod customresources;
mod differential;
mod documents;
mod encodings;
mod flow;
mod harness;
mod http2;

mod identity;
mod identity_lease;
mod impersonation;
mod kinds;
mod lists;
mod live;
mod node_ports;
mod objects;
mod plugins;
mod pod_security;
mod security;
mod services;
mod standing;
mod streams;
mod tls;
mod token_signer;
mod watches;
mod webhooks;
