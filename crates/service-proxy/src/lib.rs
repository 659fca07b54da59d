//! service-proxy.
