//! All controllers against a real API server in the same process, each with its own identity and no more rights than
//! its role gives.

mod cluster;
mod lifecycle;
mod rollouts;
mod services;
