//! cluster-dns.
