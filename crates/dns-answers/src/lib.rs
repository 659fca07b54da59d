//! The cluster's DNS zone as data, and the answer to a query.
//!
//! [`Zone`] holds what services and their end points look like to a resolver; [`answer`] turns a query into a reply, or
//! says that the name is not the cluster's and has to be asked elsewhere. Behaviour follows the Kubernetes DNS-based
//! service discovery specification 1.1.0, with CoreDNS's choices where it leaves some (TTL 5, pod names from addresses).
//!
//! Pure: no sockets, no clock, no randomness (the caller gives the rotation of several addresses).
//! Not here: listening, forwarding, watching (`cluster-dns`).

mod answer;
#[cfg(test)]
mod tests;
mod zone;

pub use answer::{Answer, answer, datagram_limit, error, fit};
pub use zone::{Endpoint, Port, ServiceRecords, Zone, compile};
