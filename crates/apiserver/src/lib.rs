//! The API server: the one road that every request takes, over every kind of the table.
//!
//! What it is: connection, authentication, audit, impersonation, flow control, authorization, decoding and defaults,
//! admission, preparation, validation, store transaction, answer; lists and watches from a cache per resource. What it is not: it
//! has no handler for any kind; what is special about one stands in `api`, what is allowed in `access`.
//!
//! Start with [`Server`], then `road` (the stages in order), `write::update` (the loop of a changing write), `cache`
//! (the contract of reads) and `read::watch`.

/// Bodies are read by functions that call themselves, to a bounded depth: whoever serves requests needs threads with stacks of
/// this size (CVE-2019-11254).
pub const THREAD_STACK_BYTES: usize = 8 << 20;

mod admit;
mod aggregation;
mod allocate;
mod audit;
mod authenticate;
mod authorize;
mod body;
mod bootstrap;
mod cache;
mod call;
mod charge;
mod components;
mod connect;
mod custom;
mod decode;
mod discovery;
mod file_watch;
mod flow;
mod go;
mod health;
mod identity_lease;
mod impersonate;
mod in_process;
mod kept;
mod kubernetes_service;
mod limits;
mod listen;
mod manifests;
mod measures;
mod metrics;
mod negotiate;
mod openapi;
mod outbound;
mod paths;
mod policies;
mod policy;
mod protobuf;
mod read;
mod request;
mod resource;
mod respond;
mod rest;
mod road;
mod schemas;
mod server;
mod service_cidr;
mod shape;
mod standing;
mod token_signer;
mod virtuals;
mod webhooks;
mod write;

pub use audit::{AuditOptions, Batch, Delivery, DeliveryMode, LogOptions, WebhookOptions};
pub use body::{Body, BoxError};
pub use components::{Alive, Component, Pulse};
pub use file_watch::follow as follow_file;
pub use flow::seat_cost;
pub use in_process::InProcess;
pub use limits::Limits;
pub use listen::TlsSettings;
pub use machinery::about::Flags;
pub use policy::{FrontProxy, Policy, TokenWebhook};
pub use protobuf::{ProtobufError, decode as decode_protobuf};
pub use request::probe;
pub use server::{Config, Identity, KubeletClient, Server, StartError};
pub use token_signer::{Introduced, TokenSigner};
